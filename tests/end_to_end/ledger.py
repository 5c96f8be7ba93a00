"""Defines writers that keep a ledger of the reports they sent and the acknowledgements they got.

A request that got no answer, or 503, is sent again with the same report ids until it is answered.
The ledger is then compared with the log: nothing acknowledged is missing, moved or doubled, and
the log has no report that was not sent.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.end_to_end.site import Entry, P, Site, entries, new_site, post
from tests.serving import Answer

VERSIONS = [f"1.{minor}.0" for minor in range(6)]
STATUSES = ["installed"] * 5 + ["running", "downloading", "failed"]
DEVICES_EACH = 3
ANSWER_SECONDS_MAX = 45
GO_ON_SECONDS_MAX = 60
RETRY_SECONDS = 0.02

type Key = tuple[str, str]
"""(device, report id)"""
type Report = dict[str, Any]


class Unit(NamedTuple):
    """Holds the reports of one request: of one device, or of a gateway, whose reports name
    theirs."""

    device: str | None
    reports: Sequence[Report]
    is_array: bool


class Writer:
    """Sends requests for its own devices, one after the other."""

    def __init__(self, site: Site, number: int, *, duplicates: float = 0.1) -> None:
        self.site = site
        self.devices = devices_of(number)
        self.sent: dict[Key, Report] = {}
        self.acknowledged: dict[Key, tuple[int, str]] = {}
        """(position, recorded_at)"""
        self.unanswered: deque[Unit] = deque()
        self.faults: list[str] = []
        self.interrupted = 0
        """Requests that got no answer."""
        self.unavailable = 0
        """Requests that were answered 503."""
        self._duplicates = duplicates
        self._firsts: set[Key] = set()
        """Reports that an answer called the first; only one answer may."""

    async def run(self, session: ClientSession, url: str, stop: asyncio.Event) -> None:
        """Sends, unanswered requests first, until `stop` is set or the server is gone."""
        while not stop.is_set():
            if not self.unanswered:
                self.unanswered.append(self._unit())
            if not await self.send(session, url, self.unanswered[0]):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.unanswered.popleft()

    async def finish(self, session: ClientSession, url: str) -> None:
        """Sends the unanswered requests until they are answered."""
        while self.unanswered:
            if await self.send(session, url, self.unanswered[0]):
                self.unanswered.popleft()

    async def send(self, session: ClientSession, url: str, unit: Unit) -> bool:
        """Sends a unit once, and returns whether it was acknowledged."""
        for report in unit.reports:
            self.sent[self.key(unit, report)] = report
        path, credential = self.target(unit)
        body = unit.reports if unit.is_array else unit.reports[0]
        try:
            answer = await post(session, f"{url}{path}", credential, body)
        except (ClientError, ConnectionError):
            self.interrupted += 1
            return False
        if answer.status == 503:
            self.unavailable += 1
            if int(answer.headers["Retry-After"]) < 1:
                self.faults.append(f"Retry-After: {answer.headers['Retry-After']}")
            return False
        self._note(unit, answer)
        return True

    def target(self, unit: Unit) -> tuple[str, str]:
        """Returns the unit's path and credential."""
        if unit.device is None:
            return f"{P}/reports", self.site.gateway
        return f"{P}/devices/{unit.device}/reports", self.site.secrets[unit.device]

    def key(self, unit: Unit, report: Report) -> Key:
        return unit.device or report["device"], report["report_id"]

    def _note(self, unit: Unit, answer: Answer) -> None:
        if answer.status not in {200, 201}:
            self.faults.append(f"{answer.status} {answer.body.decode()} to {unit}")
            return
        receipts = answer.json if unit.is_array else [answer.json]
        for report, receipt in zip(unit.reports, receipts, strict=True):
            key, stands = self.key(unit, report), (receipt["position"], receipt["recorded_at"])
            before = self.acknowledged.setdefault(key, stands)
            if before != stands or (key in self._firsts and not receipt["duplicate"]):
                self.faults.append(f"{key} was acknowledged as {before}, then {receipt}")
            if not receipt["duplicate"]:
                self._firsts.add(key)

    def _unit(self) -> Unit:
        is_array = random.random() < 0.3
        device = random.choice(self.devices) if random.random() < 0.7 else None
        count = random.randint(1, 12) if is_array else 1
        return Unit(device, [self._report(device) for _ in range(count)], is_array)

    def _report(self, device: str | None) -> Report:
        """Returns a new report, or one that was acknowledged already."""
        name = device or random.choice(self.devices)
        known = [key for key in self.acknowledged if key[0] == name][-50:]
        if known and random.random() < self._duplicates:
            report = self.sent[random.choice(known)]
        else:
            report = new_report(name, f"r{len(self.sent)}-{random.getrandbits(32):08x}")
        named = {} if device else {"device": name}
        return {name: value for name, value in report.items() if name != "device"} | named


async def new_writers(database: str, count: int, *more_devices: str) -> tuple[Site, list[Writer]]:
    """Returns writers, and a site in a migrated database that has their devices."""
    devices = [device for number in range(count) for device in devices_of(number)]
    site = await new_site(database, [*devices, *more_devices])
    return site, [Writer(site, number) for number in range(count)]


def devices_of(writer: int) -> list[str]:
    return [f"writer-{writer}-{number}" for number in range(DEVICES_EACH)]


def new_report(device: str, report_id: str) -> Report:
    """Returns a random report: most are late, some have an implausible time, some are bare."""
    report: Report = {
        "version": random.choice(VERSIONS),
        "status": random.choice(STATUSES),
        "report_id": report_id,
    }
    if random.random() < 0.8:
        ago = timedelta(seconds=random.randint(-600, 90 * 86_400))
        report["occurred_at"] = (datetime.now(UTC) - ago).isoformat(timespec="milliseconds")
    if device.endswith("-0") and random.random() < 0.5:
        report["seq"] = random.randint(0, 1_000_000)
    if random.random() < 0.1:
        report["detail"] = "why it was so"
    return report


def session() -> ClientSession:
    """Opens a client session; an answer slower than ANSWER_SECONDS_MAX is an error."""
    return ClientSession(timeout=ClientTimeout(total=ANSWER_SECONDS_MAX))


@contextlib.asynccontextmanager
async def load(
    session: ClientSession, writers: Sequence[Writer], *urls: str
) -> AsyncIterator[None]:
    """Runs all writers in parallel, spread over the servers, while the context is entered."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number, writer in enumerate(writers):
            tasks.create_task(writer.run(session, urls[number % len(urls)], stop))
        try:
            yield
        finally:
            stop.set()


async def until_all_go_on(writers: Sequence[Writer]) -> None:
    """Waits until every writer has another acknowledgement."""
    before = [len(writer.acknowledged) for writer in writers]
    async with asyncio.timeout(GO_ON_SECONDS_MAX):
        while any(len(w.acknowledged) == n for w, n in zip(writers, before, strict=True)):
            await asyncio.sleep(RETRY_SECONDS)


async def until_refused(writers: Sequence[Writer]) -> None:
    """Waits until every writer was answered 503 once more."""
    before = [writer.unavailable for writer in writers]
    async with asyncio.timeout(GO_ON_SECONDS_MAX):
        while any(w.unavailable == n for w, n in zip(writers, before, strict=True)):
            await asyncio.sleep(RETRY_SECONDS)


async def settle(session: ClientSession, writers: Sequence[Writer], url: str) -> None:
    """Finishes until everything is acknowledged, and checks that the log has each report once."""
    async with asyncio.timeout(GO_ON_SECONDS_MAX):
        for writer in writers:
            await writer.finish(session, url)
    assert [key for w in writers for key in w.sent.keys() - w.acknowledged.keys()] == []
    assert faults(writers, await entries(session, url, writers[0].site)) == []


def faults(writers: Sequence[Writer], log: Sequence[Entry]) -> list[str]:
    """Returns where the log contradicts the writers' ledgers; nothing if it agrees."""
    return [fault for writer in writers for fault in writer.faults] + list(_faults(writers, log))


def _faults(writers: Sequence[Writer], log: Sequence[Entry]) -> Iterator[str]:
    sent = {key: report for writer in writers for key, report in writer.sent.items()}
    acknowledged = {key: at for writer in writers for key, (at, _) in writer.acknowledged.items()}
    for identity, times in Counter((entry.subject, entry.id) for entry in log).items():
        if times > 1:
            yield f"{identity} is recorded {times} times"
    for key, position in acknowledged.items():
        if position >= len(log) or _key_of(log[position]) != key:
            yield f"{key} was acknowledged at {position} and is not there"
    for entry in log:
        recorded = _key_of(entry)
        if recorded is not None and not _says(entry, sent.get(recorded)):
            yield f"{entry} is not what was sent: {sent.get(recorded)}"


def _key_of(entry: Entry) -> Key | None:
    """Returns the report that an entry records, None for another event."""
    if not entry.id.startswith("r."):
        return None
    return entry.subject.removeprefix("device/"), entry.id.removeprefix("r.")


def _says(entry: Entry, report: Report | None) -> bool:
    if report is None:
        return False
    data = entry.data
    is_same = data["version"] == report["version"] and data.get("seq") == report.get("seq")
    return is_same and ("occurred_at" in data) == ("occurred_at" in report)
