"""Finds a device, a release, a version, a rollout or a position of a project by a short text.

A text matches the beginning of a name. The device, version, rollout or position that it names in
full comes first. At most ten matches are returned, and a search reads a few rows for each.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from firmtrail.http.call import AnyCall
from firmtrail.http.callers import Permission
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.projections import device_current, fleet_versions
from firmtrail.projections.device_current import Filter
from firmtrail.rules import version
from firmtrail.rules.release import ReleaseKey

MATCHES_MAX = 10

DEVICE_CHARACTERS_MAX = 128

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


async def matches(call: AnyCall, text: str) -> tuple[int, list[Match]]:
    """Returns the size of the log and the matches, exact ones first. Positions are found only for
    callers that may read the log."""
    wanted = text.strip(" +")  # in a query, a space is read as "+"
    async with consistent_read(call) as now:
        found = [
            *_positions(call, now, wanted),
            *await _devices(call, now, wanted),
            *await _versions(call, now, wanted),
            *_rollouts(now, wanted),
        ]
    found.sort(key=lambda each: not each.exact)
    return now.size, found[:MATCHES_MAX]


def _positions(call: AnyCall, now: ConsistentRead, text: str) -> Iterable[Match]:
    digits = "".join(text.replace("+", " ").split())
    is_number = digits.isascii() and digits.isdecimal() and len(digits) < 16
    if is_number and int(digits) < now.size and Permission.AUDIT in call.caller.permissions:
        yield Match(kind="position", name=str(int(digits)), exact=True)


async def _devices(call: AnyCall, now: ConsistentRead, text: str) -> list[Match]:
    if not text or len(text) > DEVICE_CHARACTERS_MAX:
        return []
    which = Filter(prefix=text, decommissioned=None)
    head = (call.log_id, call.project)
    _, found = await device_current.page(now.reader, head, which, after="", limit=MATCHES_MAX)
    names = [(each.state.device, each.state.model) for each in found]
    return [
        Match(kind="device", name=name, model=model, exact=name == text) for name, model in names
    ]


async def _versions(call: AnyCall, now: ConsistentRead, text: str) -> list[Match]:
    """Returns the releases and the other versions that run, the highest first."""
    _, counts = await fleet_versions.counts(now.reader, call.log_id)
    running = {(each.model, each.version) for each in counts if each.version is not None}
    keys = {(key.model, key.version) for key in now.control.releases} | running
    found = [(model, name) for model, name in keys if name is not None and name.startswith(text)]
    found.sort(key=lambda each: (version.precedence(each[1]), each[0] or ""), reverse=True)
    return [
        Match(
            kind="release" if _is_release(now, model, name) else "version",
            name=name,
            model=model,
            exact=name == text,
        )
        for model, name in found[:MATCHES_MAX]
    ]


def _is_release(now: ConsistentRead, model: str | None, name: str) -> bool:
    return model is not None and ReleaseKey(model, name) in now.control.releases


def _rollouts(now: ConsistentRead, text: str) -> list[Match]:
    named = [each for each in now.control.rollouts.values() if each.id.startswith(text)]
    named.sort(key=lambda each: -each.position)
    return [
        Match(kind="rollout", name=each.id, model=each.model, exact=each.id == text)
        for each in named[:MATCHES_MAX]
    ]
