"""How the simulated fleet talks to a service: over kept connections, patiently, at a rate.

What it is told, it checks against the model at once: a receipt that contradicts an earlier one, or
an answer that the interface doesn't know, is a difference.
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
from firmtrail.simulate.fleet import Device, Post, Recorded

CONNECTIONS = 100
PATIENCE_S = 60
"""How long a request is tried before the run is given up."""
RETRY_AFTER_S = 1
REGISTER_DEVICES = 1000
DIFFERENCES_SHOWN = 20


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What is told of a report."""

    position: int
    duplicate: bool
    recorded_at: str


class Answer(msgspec.Struct, frozen=True):
    """A final answer; `attempts` before it had none, or one that says to try again."""

    status: int
    body: bytes
    attempts: int
    log_size: int | None = None
    etag: str = ""


class Tally:
    """What happened, in numbers, and every way in which it was not as it should be."""

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
    """Lets so many reports a second go."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next_s = time.monotonic()

    async def wait(self, reports: int) -> None:
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s - 0.1) + reports * self._interval_s
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


_receipt = msgspec.json.Decoder(Receipt).decode
_receipts = msgspec.json.Decoder(list[Receipt]).decode


class Client:
    """Requests to one project of a service."""

    def __init__(self, session: ClientSession, url: str, project: str, token: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self.path = f"/api/v1/projects/{project}"
        """Of the project, and the beginning of every path that the service names."""
        self._token = token
        self.tally = Tally()

    async def get(self, path: str, accept: str = "application/json") -> Answer:
        return await self._ask("GET", path, self._token, more={"Accept": accept})

    async def order(self, path: str, body: Any) -> Any:
        """What an operator orders, once however often it has to be sent; gives the answer's JSON.

        Raises `CouldNotRun` where it is refused.
        """
        more = {"Idempotency-Key": secrets.token_hex(16)}
        answer = await self._ask("POST", path, self._token, msgspec.json.encode(body), more=more)
        return _done(path, answer)

    async def upload(self, path: str, data: bytes) -> Any:
        """As `order`, for an artifact."""
        more = {"Content-Type": "application/octet-stream"}
        return _done(path, await self._ask("PUT", path, self._token, data, more=more))

    async def check_in(self, device: Device, etag: str) -> Answer:
        """What the device is told: 304 if it has the answer of this ETag and there is no other."""
        more = {"If-None-Match": etag} if etag else {}
        return await self._ask("GET", f"/devices/{device.name}/update", device.secret, more=more)

    async def load(self, device: Device, url: str) -> Answer:
        """An artifact that the device was told of."""
        return await self._ask("GET", url.removeprefix(self.path), device.secret)

    async def register(self, fleet: Sequence[Device], model: str) -> None:
        """Register devices, and give each the secret made for it.

        An answer that got lost took the secrets with it: then they are made anew.
        """
        body = [{"device": device.name, "model": model} for device in fleet]
        path = "/devices?reissue=never_seen"
        answer = await self._ask("POST", path, self._token, msgspec.json.encode(body))
        if answer.status not in {200, 201}:
            said = reason_of(answer.body)
            raise CouldNotRun(f"Registering devices was answered {answer.status}: {said}")
        for device, registered in zip(fleet, msgspec.json.decode(answer.body), strict=True):
            device.secret = registered["secret"]

    async def play(self, post: Post) -> None:
        """Send what a device says, and take down what it is told."""
        times = 2 if post.is_twice else 1
        answers = await asyncio.gather(*(self._send(post) for _ in range(times)))
        told = [(each, self._read(post, each)) for each in answers]
        # Of two at once, either is the first; the other must say so too.
        for answer, receipts in sorted(told, key=lambda each: all(r.duplicate for r in each[1])):
            self._note(post, answer, receipts)

    async def _send(self, post: Post) -> Answer:
        body = msgspec.json.encode(post.reports if post.is_array else post.reports[0])
        path = f"/devices/{post.device.name}/reports"
        return await self._ask("POST", path, post.device.secret, body)

    def _read(self, post: Post, answer: Answer) -> Sequence[Receipt]:
        try:
            if answer.status in {200, 201}:
                return _receipts(answer.body) if post.is_array else [_receipt(answer.body)]
        except msgspec.MsgspecError:
            pass
        said = answer.body.decode(errors="replace")[:300]
        self.tally.differ(f"{post.device.name}: {post.reports} was answered {answer.status} {said}")
        return []

    def _note(self, post: Post, answer: Answer, receipts: Sequence[Receipt]) -> None:
        device, is_any_new = post.device, False
        for report, receipt in zip(post.reports, receipts, strict=False):
            is_any_new |= not receipt.duplicate
            known = device.known(report)
            stands = Recorded(report, receipt.position, time_ms(receipt.recorded_at))
            if known is None:
                device.recorded.append(stands)
                self.tally.recorded += 1
            else:
                self.tally.duplicates += 1
            # After a lost answer, the first receipt may come as a duplicate's.
            is_expected = receipt.duplicate == (known is not None) or answer.attempts > 1
            if not is_expected or (known is not None and known[1:] != stands[1:]):
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
    ) -> Answer:
        """Ask until there is an answer other than "later"; `more` are headers."""
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
        headers |= more or {}
        url = URL(self._url + self.path + path, encoded=True)
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
        raise CouldNotRun(f"{url} gave no answer for {PATIENCE_S} s: check that the server runs.")


def _answer(response: ClientResponse, read: bytes, attempts: int) -> Answer:
    size = int(response.headers.get("Firmtrail-Log-Size", "0")) or None
    return Answer(response.status, read, attempts, size, response.headers.get("ETag", ""))


def _done(path: str, answer: Answer) -> Any:
    if answer.status >= 400:
        raise CouldNotRun(f"{path} was answered {answer.status}: {reason_of(answer.body)}")
    return msgspec.json.decode(answer.body)


def reason_of(body: bytes) -> str:
    """What a problem says; of a body that is none, its text."""
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return body.decode(errors="replace")
