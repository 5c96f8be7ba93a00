"""Repeats to a device what it said of an action.

The first message of each kind is recorded, and so these are the ones that are repeated.
"""

from typing import Literal

from firmtrail.http.actions import NamedAction
from firmtrail.http.call import AnyCall
from firmtrail.projections.history_lines import END, HistoryEntry
from firmtrail.projections.history_pages import HistoryRequest
from firmtrail.protocols.hawkbit.shapes import ActionHistory

MESSAGES_MAX = 100
"""hawkBit's limit, which is also what a negative number asks for."""

NO_DETAIL = "Update Server: the device reported {status}."
"""Stands for a report without a message, with the mark of a message that the server made."""


async def of_action(call: AnyCall, named: NamedAction, wanted: int) -> ActionHistory | None:
    """Returns as many messages as are wanted; None if none are, or the device said nothing."""
    if wanted == 0:
        return None
    messages = await _messages(call, named)
    if not messages:
        return None
    limit = MESSAGES_MAX if wanted < 0 else min(wanted, MESSAGES_MAX)
    status: Literal["RUNNING", "FINISHED"] = "FINISHED" if named.is_over else "RUNNING"
    return ActionHistory(status, messages[:limit])


async def _messages(call: AnyCall, named: NamedAction) -> list[str]:
    of = named.offer
    stop = of.outcome_position + 1 if of.outcome_position > of.position else END
    asked = HistoryRequest(call.log_id, of.device, stop, moves=0, lines_max=MESSAGES_MAX)
    page = await call.services.queries.histories.page(asked)
    said = (
        entry
        for entry in page.entries
        if entry.version == of.version and entry.position > of.position
    )
    return [line for entry in said for line in _lines(entry)]


def _lines(entry: HistoryEntry) -> list[str]:
    text = entry.detail or NO_DETAIL.format(status=entry.status)
    return text.splitlines()[::-1]
