"""Records in the access record that a request reads, before any byte of the answer is sent."""

from collections.abc import Mapping

import msgspec

from firmtrail.access.reads import Read
from firmtrail.http.call import AnyCall

PAGING_PARAMETERS = ("limit", "cursor", "count")
"""Parameters of a list that do not change which items the list holds."""


async def record(call: AnyCall, asked: Mapping[str, object]) -> None:
    """Records that this request reads what `asked` describes. Every handler that gives out a part
    of the log, or a list as a file, calls this before it sends the first byte. If it raises
    `Unavailable`, the request must not be answered. A HEAD request reads nothing. A request whose
    standby failed runs again, and is recorded once."""
    if call.request.method != "HEAD" and not call.is_recorded:
        await call.services.reads.add(_read(call, _below_project(call), asked))
        call.is_recorded = True


def _below_project(call: AnyCall) -> str:
    """Returns the path of the request without the project's: one list has one path, whether it is
    taken from the API or from a page."""
    for start in ("/api/v1/projects", "/console"):
        below = call.request.path.removeprefix(f"{start}/{call.project}")
        if below != call.request.path:
            return below or "/"
    return call.request.path


async def record_once_a_minute(call: AnyCall, path: str, asked: Mapping[str, object]) -> None:
    """Records a read of something that one client fetches by the thousand, such as tiles.

    One record stands for all reads in the next minute by the same actor with the same `path` and
    `asked`. Both therefore name the whole that the tile belongs to, and not the single tile.
    """
    if call.request.method != "HEAD":
        await call.services.reads.add_once_a_minute(_read(call, path, asked))


def filters_of(query: msgspec.Struct) -> dict[str, object]:
    """Returns the filters of a list that the query sets."""
    values = msgspec.to_builtins(query)
    return {
        field.encode_name: values[field.encode_name]
        for field in msgspec.structs.fields(query)
        if field.encode_name not in PAGING_PARAMETERS
        and getattr(query, field.name) != field.default
    }


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
