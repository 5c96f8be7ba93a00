"""Compares a service with the fleet's model: every device, every count, every position."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec

from firmtrail.exits import CouldNotRun
from firmtrail.simulate import fleet
from firmtrail.simulate.client import Client
from firmtrail.simulate.fleet import ExpectedLine, ExpectedState, RecordedReport, SimulatedDevice

PART_EVENTS = 20_000
PAGE_ITEMS = 500
REPORTS = ("FirmwareInstalled", "FirmwareRunning", "UpdateProgressed", "UpdateFailed")


class _Page[Item](msgspec.Struct, frozen=True):
    items: list[Item]
    next: str | None


class _Share(msgspec.Struct, frozen=True):
    version: str | None
    model: str | None
    devices: int


class FetchedEntry(msgspec.Struct, frozen=True):
    """Holds the members of a log entry that identify its event."""

    id: str
    type: str
    subject: str
    time: str
    actor: str
    data: dict[str, Any]


_history = msgspec.json.Decoder(_Page[ExpectedLine]).decode
_shares = msgspec.json.Decoder(_Page[_Share]).decode
_devices = msgspec.json.Decoder(_Page[ExpectedState]).decode
_next = msgspec.json.Decoder(_Page[msgspec.Raw]).decode
_entry = msgspec.json.Decoder(FetchedEntry).decode


async def log_size(client: Client) -> int:
    """Returns the log's size. Raises `CouldNotRun` for a token that may not read the log."""
    answer = await client.get("/events?limit=1", "application/x-ndjson")
    if answer.status != 200 or answer.log_size is None:
        raise CouldNotRun(
            f"The log can't be read, the service answered {answer.status}: give an admin's token, "
            f"which may register the fleet and read the log. {answer.body.decode()}"
        )
    return answer.log_size


async def histories(client: Client, devices: Iterator[SimulatedDevice]) -> None:
    """Compares the histories of devices, one after the other."""
    for device in devices:
        answer = await client.get(f"/devices/{device.name}/history?limit={PAGE_ITEMS}")
        actual = _history(answer.body).items if answer.status == 200 else []
        expected = fleet.history(device)[:PAGE_ITEMS]
        if actual != expected:
            client.tally.differ(f"{device.name}: history is {actual}, should be {expected}")


async def states(client: Client, devices: Sequence[SimulatedDevice], model: str) -> None:
    """Compares what every device runs with the list of devices."""
    actual: dict[str, ExpectedState] = {}
    async for body in pages(client, f"/devices?model={model}&limit={PAGE_ITEMS}"):
        actual |= {each.device: each for each in _devices(body).items}
    for device in devices:
        found, expected = actual.get(device.name), fleet.state(device)
        if found != expected:
            client.tally.differ(f"{device.name}: is {found}, should be {expected}")


async def versions(client: Client, devices: Sequence[SimulatedDevice], model: str) -> None:
    actual: Counter[str | None] = Counter()
    async for body in pages(client, f"/versions?limit={PAGE_ITEMS}"):
        items = _shares(body).items
        actual.update({each.version: each.devices for each in items if each.model == model})
    expected = Counter(fleet.state(device).version for device in devices)
    if actual != expected:
        client.tally.differ(f"versions are {dict(actual)}, should be {dict(expected)}")


async def pages(client: Client, path: str) -> AsyncIterator[bytes]:
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get(f"{path}&cursor={cursor}" if cursor else path)
        if answer.status != 200:
            client.tally.differ(f"{path}: the service answered {answer.status}")
            return
        yield answer.body
        cursor = _next(answer.body).next


async def log(client: Client, devices: Sequence[SimulatedDevice], start: int) -> int:
    """Compares the log from `start` on: it has no gap, the event of every receipt at its position,
    and no other report of this fleet. Returns the number of events."""
    expected = {each.position: (device, each) for device in devices for each in device.recorded}
    names = {f"device/{device.name}" for device in devices}
    next_position = start
    async for position, entry in entries(client, start):
        if position != next_position:
            client.tally.differ(f"position {next_position} is missing: {position} follows")
        if difference := _difference(entry, expected.pop(position, None), names):
            client.tally.differ(f"position {position}: {difference}")
        next_position = position + 1
    for device, each in expected.values():
        client.tally.differ(f"{device.name}: the log has no event for the receipt {each}")
    return next_position - start


async def entries(client: Client, start: int) -> AsyncIterator[tuple[int, FetchedEntry]]:
    """Yields the log from `start` to its present end; limited parts of it are in memory."""
    size = await log_size(client)
    for first in range(start, size, PART_EVENTS):
        last = min(first + PART_EVENTS, size)
        path = f"/events?positions=true&from={first}&to={last}"
        answer = await client.get(path, "application/x-ndjson")
        for line in answer.body.splitlines():
            position, _, entry = line.partition(b"\t")
            yield int(position), _entry(entry)


def _difference(
    entry: FetchedEntry, expected: tuple[SimulatedDevice, RecordedReport] | None, names: set[str]
) -> str | None:
    """Returns how an entry differs from the receipt for its position; None if it does not."""
    event = entry.type.split(".")[1]
    if expected is None:
        is_ours = event in REPORTS and entry.subject in names
        return f"no device got a receipt for {entry}" if is_ours else None
    device, (report, _, _) = expected
    name = f"device/{device.name}"
    seq = None if report.seq is msgspec.UNSET else report.seq
    actual = (entry.subject, entry.actor, event, *map(entry.data.get, ("version", "seq")))
    is_same = actual == (name, name, _event_of(report.status), report.version, seq)
    if report.report_id is not msgspec.UNSET:
        is_same &= entry.id == f"r.{report.report_id}"
    return None if is_same else f"{entry} is not {name}'s {report}"


def _event_of(status: str) -> str:
    if status in fleet.FAILING:
        return "UpdateFailed"
    return {"installed": "FirmwareInstalled", "running": "FirmwareRunning"}.get(
        status, "UpdateProgressed"
    )
