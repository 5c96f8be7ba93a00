"""Sends the requests of the simulated fleet: over persistent connections, with retries, at a rate.

It compares each answer with the model immediately: a receipt that contradicts an earlier one, or an
answer that the interface doesn't define, is a difference.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession
from yarl import URL

from firmtrail.events.times import time_ms
from firmtrail.exits import CouldNotRun
from firmtrail.simulate.fleet import Post, RecordedReport, SimulatedDevice

CONNECTIONS = 100
PATIENCE_S = 60
"""How long a request is tried before the simulation ends."""
RETRY_AFTER_S = 1
REGISTER_DEVICES = 1000
DIFFERENCES_SHOWN = 20


class ReceivedReceipt(msgspec.Struct, frozen=True, gc=False):
    """Holds the service's receipt for a report."""

    position: int
    duplicate: bool
    recorded_at: str


class ServiceAnswer(msgspec.Struct, frozen=True):
    """Holds the final answer to a request, and the number of attempts. The earlier attempts got no
    answer, or one that says to try again."""

    status: int
    body: bytes
    attempts: int
    log_size: int | None = None
    etag: str = ""


class Tally:
    """Counts requests and reports, and collects how the service differs from the model."""

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.recorded = 0
        self.duplicates = 0
        self.differences = 0
        self.shown: list[str] = []

    def differ(self, text: str) -> None:
        self.differences += 1
        if len(self.shown) < DIFFERENCES_SHOWN:
            self.shown.append(text)


class Pacer:
    """Delays requests so that at most `rate` reports are sent per second."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next_s = time.monotonic()

    async def wait(self, reports: int) -> None:
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s - 0.1) + reports * self._interval_s
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


_receipt = msgspec.json.Decoder(ReceivedReceipt).decode
_receipts = msgspec.json.Decoder(list[ReceivedReceipt]).decode


class Client:
    """Sends requests to one project of a service."""

    def __init__(self, session: ClientSession, url: str, project: str, token: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self.project = project
        self.path = f"/api/v1/projects/{project}"
        """The project's path, with which every path from the service begins."""
        self._token = token
        self.tally = Tally()

    async def get(self, path: str, accept: str = "application/json") -> ServiceAnswer:
        return await self._ask("GET", path, self._token, more={"Accept": accept})

    async def command(self, path: str, body: Any) -> Any:
        """Sends an operator's command, which takes effect once however often it is sent, and
        returns the answer's JSON. Raises `CouldNotRun` if the command is refused."""
        more = {"Idempotency-Key": secrets.token_hex(16)}
        answer = await self._ask("POST", path, self._token, msgspec.json.encode(body), more=more)
        return _done(path, answer)

    async def upload(self, path: str, data: bytes) -> Any:
        """Uploads an artifact. Returns and raises as `command`."""
        more = {"Content-Type": "application/octet-stream"}
        return _done(path, await self._ask("PUT", path, self._token, data, more=more))

    async def check_in(self, device: SimulatedDevice, etag: str) -> ServiceAnswer:
        """Returns the answer to a check-in: 304 if it is still the answer with this ETag."""
        more = {"If-None-Match": etag} if etag else {}
        return await self._ask("GET", f"/devices/{device.name}/update", device.secret, more=more)

    async def download(self, device: SimulatedDevice, url: str) -> ServiceAnswer:
        return await self._ask("GET", url.removeprefix(self.path), device.secret)

    async def gateway_token(self, *, registers: bool = False) -> str:
        """Issues a token of role gateway for the project, and returns its text. One that registers
        lets devices join, with keys of their own too."""
        body = {
            "project": self.project,
            "role": "gateway",
            "name": "simulation",
            "registers": registers,
        }
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        answer = await self.call("POST", "/api/v1/tokens", headers, msgspec.json.encode(body))
        return str(_done("/api/v1/tokens", answer)["token"])

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> ServiceAnswer:
        """Sends a request of another protocol, to a path of the service or to a whole URL, until
        the answer is not "try again later"."""
        whole = url if url.startswith(("http://", "https://")) else self._url + url
        return await self._tried(method, URL(whole, encoded=True), headers, body)

    async def register(self, fleet: Sequence[SimulatedDevice], model: str) -> None:
        """Registers devices, and gives each the secret made for it. If an answer is lost, its
        secrets are lost too: the next attempt makes new ones."""
        body = [{"device": device.name, "model": model} for device in fleet]
        path = "/devices?reissue=never_seen"
        answer = await self._ask("POST", path, self._token, msgspec.json.encode(body))
        if answer.status not in {200, 201}:
            reason = reason_of(answer.body)
            raise CouldNotRun(
                f"The devices were not registered, the service answered {answer.status}: {reason}"
            )
        for device, registered in zip(fleet, msgspec.json.decode(answer.body), strict=True):
            device.secret = registered["secret"]

    async def send(self, post: Post) -> None:
        """Sends a device's reports, and records and compares the receipts."""
        times = 2 if post.is_twice else 1
        answers = await asyncio.gather(*(self._sent(post) for _ in range(times)))
        read = [(each, self._receipts(post, each)) for each in answers]
        # Of two parallel requests either may be the first; the other must be a duplicate.
        for answer, receipts in sorted(read, key=lambda each: all(r.duplicate for r in each[1])):
            self._record(post, answer, receipts)

    async def _sent(self, post: Post) -> ServiceAnswer:
        body = msgspec.json.encode(post.reports if post.is_array else post.reports[0])
        path = f"/devices/{post.device.name}/reports"
        return await self._ask("POST", path, post.device.secret, body)

    def _receipts(self, post: Post, answer: ServiceAnswer) -> Sequence[ReceivedReceipt]:
        try:
            if answer.status in {200, 201}:
                return _receipts(answer.body) if post.is_array else [_receipt(answer.body)]
        except msgspec.MsgspecError:
            pass
        text = answer.body.decode(errors="replace")[:300]
        self.tally.differ(f"{post.device.name}: {post.reports} was answered {answer.status} {text}")
        return []

    def _record(
        self, post: Post, answer: ServiceAnswer, receipts: Sequence[ReceivedReceipt]
    ) -> None:
        device, is_any_new = post.device, False
        for report, receipt in zip(post.reports, receipts, strict=False):
            is_any_new |= not receipt.duplicate
            known = device.known(report)
            recorded = RecordedReport(report, receipt.position, time_ms(receipt.recorded_at))
            if known is None:
                device.recorded.append(recorded)
                self.tally.recorded += 1
            else:
                self.tally.duplicates += 1
            # After a lost answer, the first receipt that arrives may be a duplicate's.
            is_expected = receipt.duplicate == (known is not None) or answer.attempts > 1
            if not is_expected or (known is not None and known[1:] != recorded[1:]):
                self.tally.differ(f"{device.name}: {report} got {receipt}, known: {known}")
        if receipts and answer.status != (201 if is_any_new else 200):
            self.tally.differ(f"{device.name}: {post.reports} was answered {answer.status}")

    async def _ask(
        self,
        method: str,
        path: str,
        credential: str,
        body: bytes | None = None,
        *,
        more: Mapping[str, str] | None = None,
    ) -> ServiceAnswer:
        """Sends a request until the answer is not "try again later"; `more` are headers."""
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
        headers |= more or {}
        url = URL(self._url + self.path + path, encoded=True)
        return await self._tried(method, url, headers, body)

    async def _tried(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> ServiceAnswer:
        give_up_s = time.monotonic() + PATIENCE_S
        attempts = 0
        while time.monotonic() < give_up_s:
            attempts += 1
            self.tally.requests += 1
            wait_s = float(RETRY_AFTER_S)
            try:
                async with self._session.request(
                    method, url, data=body, headers=headers
                ) as response:
                    read = await response.read()
                    if response.status not in {408, 429} and response.status < 500:
                        return _answer(response, read, attempts)
                    wait_s = float(response.headers.get("Retry-After", RETRY_AFTER_S))
            except (ClientError, TimeoutError):
                pass
            self.tally.retries += 1
            await asyncio.sleep(wait_s)
        raise CouldNotRun(f"{url} did not answer for {PATIENCE_S} s: check that the server runs.")


def _answer(response: ClientResponse, read: bytes, attempts: int) -> ServiceAnswer:
    size = int(response.headers.get("Firmtrail-Log-Size", "0")) or None
    return ServiceAnswer(response.status, read, attempts, size, response.headers.get("ETag", ""))


def _done(path: str, answer: ServiceAnswer) -> Any:
    if answer.status >= 400:
        raise CouldNotRun(f"{path} was answered {answer.status}: {reason_of(answer.body)}")
    return msgspec.json.decode(answer.body)


def reason_of(body: bytes) -> str:
    """Returns the detail of a problem; if the body is not a problem, its text."""
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return body.decode(errors="replace")
