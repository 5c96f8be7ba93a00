"""Noting a read in the access record, before anything of it is sent."""

from collections.abc import Mapping

import msgspec

from firmtrail.access.reads import Read
from firmtrail.http.call import AnyCall

PAGING = ("limit", "cursor", "count")
"""Members of a list's query that say nothing of what is in the list."""


async def record(call: AnyCall, asked: Mapping[str, object]) -> None:
    """Note that this request reads what `asked` says. Raises `Unavailable`: then it may not.

    For every handler that gives out a part of the log, or a list to take away. Call it once it is
    known what will be read, and before the first byte is sent. A HEAD reads nothing.
    """
    if call.request.method != "HEAD":
        await call.services.reads.add(_read(call, _path(call), asked))


async def record_once_a_minute(call: AnyCall, path: str, asked: Mapping[str, object]) -> None:
    """As `record`, for what one client fetches by the thousand, tiles say.

    One record stands for all reads by the same actor in the next minute that have this `path` and
    `asked`: so neither names the single tile, but what it is a part of.
    """
    if call.request.method != "HEAD":
        await call.services.reads.add_once_a_minute(_read(call, path, asked))


def asked(query: msgspec.Struct) -> dict[str, object]:
    """The filters of a list, without those that are not set."""
    values = msgspec.to_builtins(query)
    return {
        field.encode_name: values[field.encode_name]
        for field in msgspec.structs.fields(query)
        if field.encode_name not in PAGING and getattr(query, field.name) != field.default
    }


def _path(call: AnyCall) -> str:
    """Below the project's; the names in it were checked."""
    return call.request.path.removeprefix(f"/api/v1/projects/{call.project}") or "/"


def _read(call: AnyCall, path: str, asked: Mapping[str, object]) -> Read:
    return Read(
        project=call.project,
        at_ms=call.services.access.now_ms(),
        request_id=call.request_id,
        actor=call.caller.actor,
        path=path,
        asked=msgspec.json.encode(asked).decode(),
        address=call.address,
    )
