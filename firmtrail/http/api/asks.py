"""Serves the questions that users put to devices about the version that they run."""

import time
from functools import partial
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.commands import steering as commands
from firmtrail.commands.once import answering, once
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http.api import devices
from firmtrail.http.api.check_ins import Wait, deadline, is_gone
from firmtrail.http.api.rows import OPERATE, POST, READ, D, command, listing
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.lists import ListPage, SortKey
from firmtrail.http.scalars import Id
from firmtrail.http.watch import grew
from firmtrail.projections import device_asks, history_lines
from firmtrail.recording.commit import Commit
from firmtrail.rules import ask


class WantedAsk(StrictBody, frozen=True, kw_only=True):
    """Limits the time in which the device is asked."""

    expires_in_s: Annotated[int, Meta(ge=60, le=2_592_000)] = 86_400


class AskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Sets for how many seconds the request may wait for the device's answer."""

    wait: Wait = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Names the question that was put, and its answer if it came while the request waited."""

    question: Id
    version: str | UnsetType = UNSET
    answered_at: TimeText | UnsetType = UNSET


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a question to a device."""

    question: Id
    state: Literal["open", "answered", "expired"]
    asked_at: TimeText
    expires_at: TimeText
    answered_at: TimeText | None
    version: str | None


type AskCall = Call[AskQuery, WantedAsk]


async def post_ask(call: AskCall) -> web.Response:
    """Ask the device which version it runs; with `wait`, return its answer if it comes in time."""
    name = call.path("device")
    asking = commands.ask(name, expires_in_s=call.body.expires_in_s, actor=call.caller.actor)

    async def command(commit: Commit) -> Asked:
        return Asked(question=(await asking(commit)).question)

    answered = answering(202, command)
    answer = await once(call.services.recorder, call.log_id, call.key, answered)
    body = answer.body if isinstance(answer.body, Asked) else Asked(**answer.body)
    found = await _answered(call, body.question)
    if found is None:
        return respond.json(202, body)
    version, answered_at_ms = found
    body = Asked(question=body.question, version=version, answered_at=time_text(answered_at_ms))
    return respond.json(200, body)


async def _answered(call: AskCall, question: str) -> tuple[str, int] | None:
    """Returns the version and the time of the answer, if it comes before the request is due."""
    due_at = deadline(call, call.query.wait)
    with call.services.limits.people_waits.try_enter(call.caller.actor_id) as has_place:
        while has_place and (left_s := due_at - time.monotonic()) > 0:
            size, found = await device_asks.one(
                call.services.db, call.log_id, (call.path("device"), question)
            )
            if found is not None and found.version is not None and found.answered_at_ms is not None:
                return found.version, found.answered_at_ms
            if call.services.readiness.is_draining or is_gone(call):
                return None
            await call.services.watch.until(call.log_id, grew(size), left_s, lambda: is_gone(call))
    return None


async def get_asks(call: AnyCall) -> web.StreamResponse:
    """List the questions to the device, the newest first."""
    name = call.path("device")
    await devices.existing(call, name)

    def fetching(now: ConsistentRead) -> lists.FetchPage:
        async def fetch(place: SortKey | None, limit: int) -> ListPage:
            before = history_lines.END if place is None else int(place[0])
            size, now_ms, asks = await device_asks.page(
                now.reader, call.log_id, name, before=before, limit=limit + 1
            )
            show = partial(_shown, now_ms=now_ms)
            return lists.page_of(asks, limit, lambda each: (each.position,), show, log_size=size)

        return fetch

    return await lists.answer_consistently(call, Ask, fetching, key_type=tuple[int])


def _shown(found: ask.Question, now_ms: int) -> Ask:
    is_answered = found.answered_position is not None
    state = "open" if ask.is_open(found, now_ms) else "answered" if is_answered else "expired"
    return Ask(
        question=found.question,
        state=state,  # type: ignore[arg-type] # one of the three
        asked_at=time_text(found.asked_at_ms),
        expires_at=time_text(found.expires_at_ms),
        answered_at=time_or_none(found.answered_at_ms),
        version=found.version,
    )


ROUTES = (
    command(
        POST,
        f"{D}/ask",
        post_ask,
        OPERATE,
        query=AskQuery,
        body=WantedAsk,
        answers={202: Asked, 200: Asked},
    ),
    listing(f"{D}/asks", get_asks, READ, Ask, is_view=True),
)
