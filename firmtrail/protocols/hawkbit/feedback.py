"""Takes a device's word about its actions.

`closed` is the device's last word. Before that, clients send up to some dozen messages, of which
the first of each kind is recorded. A client's clock has no time zone, so its time is not used.
"""

from typing import Any, Literal

from aiohttp import web

from firmtrail.http import actions
from firmtrail.http.actions import NamedAction
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.scalars import TEXT_BYTES_MAX
from firmtrail.protocols.hawkbit.polls import PROTOCOL
from firmtrail.protocols.hawkbit.shapes import Feedback, FeedbackStatus

SKIPPED = "Skipped Update."
"""SWUpdate closes an action with success and this message if it installed nothing."""

FEEDBACK_BYTES_MAX = 256 * 1024
"""A client sends the log of its install, which may be long."""

type Word = Literal[
    "downloading",
    "downloaded",
    "installing",
    "rebooting",
    "installed",
    "failed",
    "rejected",
    "nothing",
]


def word(status: FeedbackStatus) -> Word:
    """Returns what a feedback means. A message that names no progress comes from a client that has
    loaded the file."""
    match status.execution, status.result.finished:
        case "closed", "failure":
            return "failed"
        case "closed", _:
            return "nothing" if SKIPPED in (status.details or ()) else "installed"
        case ("rejected" | "downloaded") as said, _:
            return said
        case "canceled", _:
            return "nothing"
        case execution, _:
            return _on_the_way(status.result.progress, has_begun=execution == "proceeding")


def _on_the_way(progress: dict[str, Any] | None, *, has_begun: bool) -> Word:
    """Returns how far an install is. SWUpdate counts the parts that are installed, and says 0 of 1
    before it loads the first; if power fails then, no install has failed."""
    done, of = (_number(progress, name) for name in ("cnt", "of"))
    if of > 0:
        return "downloading" if done <= 0 else "rebooting" if done >= of else "installing"
    return "installing" if has_begun else "downloading"


def _number(progress: dict[str, Any] | None, name: str) -> float:
    found = (progress or {}).get(name)
    return found if isinstance(found, int | float) else 0


def detail_of(status: FeedbackStatus) -> str | None:
    """Returns the messages as one text. A long log is cut at its beginning, since the reason of a
    failure stands at its end."""
    text = b""
    for each in reversed(status.details or ()):
        text = str(each).encode("utf-8", "ignore") + b"\n" + text
        if len(text) > TEXT_BYTES_MAX:
            break
    last = text.removesuffix(b"\n")[-TEXT_BYTES_MAX:]
    return last.decode(errors="ignore") or None


async def post_feedback(call: Call[Any, Feedback]) -> web.Response:
    """Report how an action goes, or how it ended."""
    status = call.body.status
    await _take(call, word(status), detail_of(status))
    return web.Response(status=200)


async def _take(call: AnyCall, said: Word, detail: str | None) -> None:
    """Records a word about the action of the path. Most words are about the action that the device
    is at work on: they are recorded without reading the device first."""
    action = call.path("action")
    if said != "nothing":
        report = actions.ActionReport(said, detail)
        if await actions.is_taken(call, PROTOCOL, action, report):
            return
    await _take_of(call, await actions.find(call, PROTOCOL, action), said, detail)


async def _take_of(call: AnyCall, named: NamedAction, said: Word, detail: str | None) -> None:
    match said:
        case "nothing":
            return
        case "installed" if named.known.control.settings.version_attribute:
            await actions.confirmed(call, named, detail)
        case "installed":
            await actions.installed(call, named, detail)
        case "failed" | "rejected":
            await actions.failed(call, named, said, detail)
        case _:
            await actions.progressed(call, named, said, detail)


async def post_cancel_feedback(call: Call[Any, Feedback]) -> web.Response:
    """Report whether the device gives an action up.

    A device that refuses is installing, and its action continues.
    """
    status = call.body.status
    named = await actions.find(call, PROTOCOL, call.path("action"))
    match status.execution, status.result.finished:
        case "closed", "failure":
            await _take_of(call, named, "failed", detail_of(status))
        case "closed", _:
            await actions.cancelled(call, named)
        case "rejected", _:
            await _take_of(call, named, "installing", detail_of(status))
        case _:
            pass
    return web.Response(status=200)
