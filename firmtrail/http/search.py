"""Finds a device, a release, a version, a rollout or a position of a project by a short text.

A text matches the beginning of a name. The device, version, rollout or position that it names in
full comes first. At most ten matches are returned, and a search reads a few rows for each.

A search of the past finds what there was then. It folds the devices whose names match, at most
`THEN_DEVICES_MAX` of them; the one with the whole name comes first.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from firmtrail.http.call import AnyCall
from firmtrail.http.callers import Permission
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.projections import device_pages, fleet_past, fleet_versions
from firmtrail.projections.device_current import Filter
from firmtrail.projections.fleet_past import Past
from firmtrail.rules import release, version
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import ReleaseKey, Releases

MATCHES_MAX = 10

THEN_DEVICES_MAX = 200

type MatchKind = Literal["device", "release", "version", "rollout", "position"]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a thing whose name begins with the text."""

    kind: MatchKind
    """A version that devices run, but that is no release of their model, is a `version`."""
    name: str
    """The device, the version, the id of the rollout, or the position."""
    model: str | None = None
    exact: bool = False
    """Whether the text is the whole name."""


class _Search(NamedTuple):
    """Holds what a search reads: the present, and the size of the log to search as of."""

    call: AnyCall
    now: ConsistentRead
    stop: int | None

    @property
    def size(self) -> int:
        return self.now.size if self.stop is None else self.stop

    @property
    def releases(self) -> Releases:
        return release.known(self.now.control.releases, self.stop)


async def matches(call: AnyCall, text: str, stop: int | None = None) -> tuple[int, list[Match]]:
    """Returns the size of the log and the matches now, or after the first `stop` events, exact ones
    first. Positions are found only for callers that may read the log."""
    wanted = text.strip(" +")  # in a query, a space is read as "+"
    async with consistent_read(call) as now:
        search = _Search(call, now, stop)
        found = [
            *_positions(search, wanted),
            *await _devices(search, wanted),
            *await _versions(search, wanted),
            *_rollouts(search, wanted),
        ]
    found.sort(key=lambda each: not each.exact)
    return now.size, found[:MATCHES_MAX]


def _positions(search: _Search, text: str) -> Iterable[Match]:
    digits = "".join(text.replace("+", " ").split())
    is_number = digits.isascii() and digits.isdecimal() and len(digits) < 16
    may_audit = Permission.AUDIT in search.call.caller.permissions
    if is_number and int(digits) < search.size and may_audit:
        yield Match(kind="position", name=str(int(digits)), exact=True)


async def _devices(search: _Search, text: str) -> list[Match]:
    if not text:
        return []
    found = await (_devices_now if search.stop is None else _devices_then)(search, text)
    return [
        Match(kind="device", name=each.device, model=each.model, exact=each.device == text)
        for each in found
    ]


async def _devices_now(search: _Search, text: str, limit: int = MATCHES_MAX) -> list[DeviceState]:
    head = (search.call.log_id, search.call.project)
    which = Filter(prefix=text, decommissioned=None)
    found = await device_pages.page(search.now.reader, head, which, after="", limit=limit)
    return [each.state for each in found.devices]


async def _devices_then(search: _Search, text: str) -> list[DeviceState]:
    """Returns the devices as they were; none is ever deleted, so the present has their names."""
    names = [each.device for each in await _devices_now(search, text, THEN_DEVICES_MAX)]
    past = Past(search.call.log_id, search.size)
    then = await fleet_past.states(search.now.reader, past, names)
    return [then[name] for name in names if name in then][:MATCHES_MAX]


async def _versions(search: _Search, text: str) -> list[Match]:
    """Returns the releases and the other versions that run, the highest first."""
    _, counts = await fleet_versions.counts(search.now.reader, search.call.log_id, search.stop)
    running = {(each.model, each.version) for each in counts if each.version is not None}
    releases = search.releases
    keys = {(key.model, key.version) for key in releases} | running
    found = [(model, name) for model, name in keys if name is not None and name.startswith(text)]
    found.sort(key=lambda each: (version.precedence(each[1]), each[0] or ""), reverse=True)
    return [
        Match(
            kind="release" if model and ReleaseKey(model, name) in releases else "version",
            name=name,
            model=model,
            exact=name == text,
        )
        for model, name in found[:MATCHES_MAX]
    ]


def _rollouts(search: _Search, text: str) -> list[Match]:
    named = [
        each
        for each in search.now.control.rollouts.values()
        if each.id.startswith(text) and each.position < search.size
    ]
    named.sort(key=lambda each: -each.position)
    return [
        Match(kind="rollout", name=each.id, model=each.model, exact=each.id == text)
        for each in named[:MATCHES_MAX]
    ]
