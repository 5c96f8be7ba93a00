"""Does a service say what the fleet's model says? Every device, every count, every position."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec

from firmtrail.exits import CouldNotRun
from firmtrail.simulate import fleet
from firmtrail.simulate.client import Client
from firmtrail.simulate.fleet import Device, Recorded, Run, State

EVENTS_AT_ONCE = 20_000
PAGE_ITEMS = 500
REPORTS = ("FirmwareInstalled", "FirmwareRunning", "UpdateProgressed", "UpdateFailed")


class _Device(msgspec.Struct, frozen=True):
    device: str
    version: str | None
    since: str | None
    previous_version: str | None
    status: str | None
    failing: bool


class _Line(msgspec.Struct, frozen=True):
    version: str
    previous_version: str | None
    change: str
    since: str
    position: int
    late: bool


class _Page[Item](msgspec.Struct, frozen=True):
    items: list[Item]
    next: str | None


class _Share(msgspec.Struct, frozen=True):
    version: str | None
    model: str | None
    devices: int


class Entry(msgspec.Struct, frozen=True):
    """What of an entry tells which event it is."""

    id: str
    type: str
    subject: str
    time: str
    actor: str
    data: dict[str, Any]


_history = msgspec.json.Decoder(_Page[_Line]).decode
_shares = msgspec.json.Decoder(_Page[_Share]).decode
_devices = msgspec.json.Decoder(_Page[_Device]).decode
_next = msgspec.json.Decoder(_Page[msgspec.Raw]).decode
_entry = msgspec.json.Decoder(Entry).decode


async def log_size(client: Client) -> int:
    """How long the log is. Raises `CouldNotRun` for a token that may not read it."""
    answer = await client.get("/events?limit=1", "application/x-ndjson")
    if answer.status != 200 or answer.log_size is None:
        raise CouldNotRun(
            f"Reading the log was answered {answer.status}: the token has to be an admin's, "
            f"as the fleet is registered and the log is read. {answer.body.decode()}"
        )
    return answer.log_size


async def histories(client: Client, devices: Iterator[Device]) -> None:
    """Compare the histories of devices, one after the other."""
    for device in devices:
        answer = await client.get(f"/devices/{device.name}/history?limit={PAGE_ITEMS}")
        lines = _history(answer.body).items if answer.status == 200 else []
        said = [Run(*msgspec.structs.astuple(line)) for line in lines]
        expected = fleet.history(device)[:PAGE_ITEMS]
        if said != expected:
            client.tally.differ(f"{device.name}: history is {said}, should be {expected}")


async def states(client: Client, devices: Sequence[Device], model: str) -> None:
    """Compare what every device runs, as the list of devices has it."""
    said: dict[str, State] = {}
    async for body in pages(client, f"/devices?model={model}&limit={PAGE_ITEMS}"):
        items = _devices(body).items
        said |= {each.device: State(*msgspec.structs.astuple(each)[1:]) for each in items}
    for device in devices:
        found, expected = said.get(device.name), fleet.state(device)
        if found != expected:
            client.tally.differ(f"{device.name}: is {found}, should be {expected}")


async def versions(client: Client, devices: Sequence[Device], model: str) -> None:
    """Compare how many devices run what."""
    said: Counter[str | None] = Counter()
    async for body in pages(client, f"/versions?limit={PAGE_ITEMS}"):
        items = _shares(body).items
        said.update({each.version: each.devices for each in items if each.model == model})
    expected = Counter(fleet.state(device).version for device in devices)
    if said != expected:
        client.tally.differ(f"versions are {dict(said)}, should be {dict(expected)}")


async def pages(client: Client, path: str) -> AsyncIterator[bytes]:
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get(f"{path}&cursor={cursor}" if cursor else path)
        if answer.status != 200:
            client.tally.differ(f"{path} was answered {answer.status}")
            return
        yield answer.body
        cursor = _next(answer.body).next


async def log(client: Client, devices: Sequence[Device], start: int) -> int:
    """Compare the log from `start` on: no hole, every receipt in its place, and nothing more of
    this fleet; how many events there were."""
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
        client.tally.differ(f"{device.name}: nothing in the log for the receipt {each}")
    return next_position - start


async def entries(client: Client, start: int) -> AsyncIterator[tuple[int, Entry]]:
    """The log to the end that it had at the beginning, so much at a time as memory may hold."""
    size = await log_size(client)
    for first in range(start, size, EVENTS_AT_ONCE):
        last = min(first + EVENTS_AT_ONCE, size)
        path = f"/events?positions=true&from={first}&to={last}"
        answer = await client.get(path, "application/x-ndjson")
        for line in answer.body.splitlines():
            position, _, entry = line.partition(b"\t")
            yield int(position), _entry(entry)


def _difference(
    entry: Entry, expected: tuple[Device, Recorded] | None, names: set[str]
) -> str | None:
    """What is wrong with an entry, beside the receipt for its position."""
    event = entry.type.split(".")[1]
    if expected is None:
        is_ours = event in REPORTS and entry.subject in names
        return f"no receipt was given for {entry}" if is_ours else None
    device, (report, _, _) = expected
    name = f"device/{device.name}"
    seq = None if report.seq is msgspec.UNSET else report.seq
    said = (entry.subject, entry.actor, event, *map(entry.data.get, ("version", "seq")))
    is_same = said == (name, name, _event_of(report.status), report.version, seq)
    if report.report_id is not msgspec.UNSET:
        is_same &= entry.id == f"r.{report.report_id}"
    return None if is_same else f"{entry} is not {name}'s {report}"


def _event_of(status: str) -> str:
    if status in fleet.FAILING:
        return "UpdateFailed"
    return {"installed": "FirmwareInstalled", "running": "FirmwareRunning"}.get(
        status, "UpdateProgressed"
    )
