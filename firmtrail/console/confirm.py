"""Shows the page that asks a person to confirm a command, and runs the command once.

The page is a plain address that works without scripts. It shows the numbers first, and its form
carries a key, so a form that is sent twice is done once, and what the person saw, so a change by
somebody else in between is explained and not lost.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.commands.once import KEY_REUSED, CommandAnswer, IdempotencyKey, once
from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import Stale, invalid_parameter
from firmtrail.http.scalars import TEXT_BYTES_MAX, FreeText, Id
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import Refused

_SENT_BEFORE = (
    "This form was sent before, with other values, or its answer was erased since. Nothing was "
    "done now. Open its page again, look at what it is now, and decide again."
)


class FormKey(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the key of a form, for which it is done once."""

    key: Id | None = None


class ConfirmationForm(FormKey, frozen=True, kw_only=True):
    """Holds the fields of every confirmation."""

    reason: FreeText | None = None
    seen: str | None = None
    """The state that the person saw."""


class Figure(NamedTuple):
    """Holds a number that the person should see first."""

    label: str
    value: int | str
    kind: str = ""
    of_one: str = ""
    """The label of the number 1, if it is another one."""

    @property
    def words(self) -> str:
        """Returns the label that fits the number."""
        return self.of_one if self.of_one and self.value == 1 else self.label


class FigureTable(NamedTuple):
    """Describes a table of two columns under the figures."""

    title: str
    of: str
    """Says what the rows are."""
    rows: Sequence[tuple[str | None, int]]
    others: str
    """Names the row without a name."""


class FormField(NamedTuple):
    """Describes a further field of the form."""

    name: str
    label: str
    value: str = ""
    hint: str | None = None
    is_required: bool = False


class Choice(NamedTuple):
    """Links to the same page with another choice."""

    label: str
    query: dict[str, str | None]
    is_current: bool


class Confirmation(NamedTuple):
    """Describes what the person confirms."""

    title: str
    lead: str
    button: str
    back: Sequence[object]
    """The path of the page from which the person came."""
    numbers: Sequence[Figure] = ()
    warnings: Sequence[str] = ()
    fields: Sequence[FormField] = ()
    folded: Sequence[FormField] = ()
    """Fields that are rarely needed, in a part that the person opens."""
    folded_label: str = ""
    hidden: Mapping[str, str] = {}
    needs_reason: bool = False
    takes_reason: bool = True
    is_dangerous: bool = True
    table: FigureTable | None = None
    choices: Sequence[Choice] = ()
    """Further pages that ask the same for something else."""
    choices_label: str = ""
    """Says what is chosen, before the choices."""
    nav: str = "rollouts"


def new_key() -> str:
    """Returns a key for a form, which makes a form that is sent twice be done once."""
    return token_hex(16)


def page(
    call: AnyCall, asked: Confirmation, *, seen: str = "", size: int | None = None
) -> web.Response:
    """Returns the page of a confirmation."""
    return render.page(
        call,
        "confirm.html",
        title=asked.title,
        moment=None if size is None else Moment(size),
        asked=asked,
        seen=seen,
        key=new_key(),
    )


def check_reason(body: ConfirmationForm, *, is_needed: bool = False) -> None:
    """Raises `Invalid` if the reason is missing although it is needed, or has too many bytes."""
    if is_needed and body.reason is None:
        raise invalid_parameter("reason", "is missing")
    check_text("reason", body.reason)


def check_text(name: str, text: str | None) -> None:
    """Raises `Invalid` if a free text has too many bytes."""
    if text is not None and len(text.encode()) > TEXT_BYTES_MAX:
        raise invalid_parameter(name, f"has more than {TEXT_BYTES_MAX} bytes")


def check_seen(body: ConfirmationForm, current: str) -> None:
    """Raises `Stale` if the state that the person saw is no longer current."""
    if body.seen is not None and body.seen != current:
        raise Stale(
            "Somebody changed this while your page was open, so nothing was done. Go back, look at "
            "what it is now, and decide again."
        )


async def run(call: AnyCall, key: str | None, command: LogCommand[CommandAnswer]) -> Any:
    """Runs a command once for the key of its form, and returns the body of its answer. Raises
    `Refused` if the form was sent before with other fields."""
    found = None
    if key is not None and call.caller.actor_id is not None:
        line = f"{call.request.method} {call.request.rel_url.raw_path}\n".encode()
        digest = sha256(line + msgspec.json.encode(call.body))
        found = IdempotencyKey(call.caller.actor_id, key, digest.hexdigest())
    try:
        answer = await once(call.services.recorder, call.log_id, found, command)
    except Refused as refused:
        if refused.code == KEY_REUSED:
            raise Refused(KEY_REUSED, _SENT_BEFORE) from None
        raise
    return answer.body
