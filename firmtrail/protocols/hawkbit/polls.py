"""Answers polls of hawkBit's clients, and describes the actions that the answers link to.

A poll records an offer, as a check-in does, and nothing else. An action is shown until the device
closes it (`http/actions.py`). The device is asked for its attributes when it has none, when an
operator asks which version it runs, and when its last report is an outcome that is newer than they
are.
"""

import msgspec
from aiohttp import web

from firmtrail.http import actions, respond
from firmtrail.http.actions import Current, NamedAction
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound
from firmtrail.http.poll import jittered_s
from firmtrail.protocols.hawkbit import files, history
from firmtrail.protocols.hawkbit.caller import base_of
from firmtrail.protocols.hawkbit.shapes import (
    Cancellation,
    Controller,
    DeploymentBase,
    HawkbitDeployment,
    Link,
    Polling,
    PollingConfig,
    StopId,
)
from firmtrail.rules.action import is_sticky
from firmtrail.rules.artifact import Protocol
from firmtrail.rules.offer import Offer, latest

PROTOCOL: Protocol = "hawkbit"

SLEEP_S_MAX = 24 * 3600 - 1
"""The longest interval that HH:MM:SS can say."""

NEWER_MS = 2_000
"""How much newer an outcome is than the attributes, if it did not follow from them."""

OUTCOMES = frozenset({"installed", "failed", "rejected", "rebooting"})

_encode = msgspec.json.Encoder().encode


class ActionQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Takes what clients repeat from the link, and how many messages of the action they want; a
    negative number asks for as many as there are."""

    c: str | None = None
    action_history: int = 0


async def get_controller(call: AnyCall) -> web.Response:
    """Return when to poll again, and links to what there is to do."""
    now = await actions.current(call, None, PROTOCOL)
    links = await _links(call, now)
    sleep = _clock(jittered_s(now.decided.case.control.settings.poll_after_s))
    body = Controller(PollingConfig(Polling(sleep)), links or msgspec.UNSET)
    size = now.decided.seen.counts.size
    return _known_by_links(call, body, links, size)


def _known_by_links(
    call: AnyCall, body: Controller, links: dict[str, Link], log_size: int
) -> web.Response:
    """Returns the answer with the ETag of its links: the interval differs from poll to poll."""
    etag = respond.etag_of(_encode(links))
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    if respond.client_has(call.request, etag):
        return web.Response(status=304, headers=headers | {respond.LOG_SIZE: str(log_size)})
    return respond.resource(call, body, log_size, headers)


def _clock(seconds: int) -> str:
    """Returns an interval as HH:MM:SS; clients refuse any other length."""
    shown = min(max(seconds, 1), SLEEP_S_MAX)
    return f"{shown // 3600:02}:{shown // 60 % 60:02}:{shown % 60:02}"


async def _links(call: AnyCall, now: Current) -> dict[str, Link]:
    base = base_of(call)
    links: dict[str, Link] = {}
    shown = now.action
    if shown is not None and now.is_cancelling:
        links["cancelAction"] = Link(f"{base}/cancelAction/{shown.ordinal}")
    elif shown is not None and files.of_offer(now.decided.case.control, shown) is not None:
        links["deploymentBase"] = Link(f"{base}/deploymentBase/{shown.ordinal}?c=1")
    if done := _installed(now):
        links["installedBase"] = Link(f"{base}/installedBase/{done.ordinal}")
    if wants_attributes(now):
        links["configData"] = Link(f"{base}/configData")
    return links


def wants_attributes(now: Current) -> bool:
    """Returns whether the device should say what it is. While it installs an action it is not
    asked, because an old version would look like the end of that; before, only if it never said
    anything."""
    seen, state = now.decided.seen, now.decided.state
    if now.action is not None:
        return seen.said_at_ms is None and not is_sticky(now.action)
    if seen.said_at_ms is None:
        return True
    if seen.question is not None:
        return True
    if state.status not in OUTCOMES:
        return False
    return (state.recorded_at_ms or 0) > seen.said_at_ms + NEWER_MS


def _installed(now: Current) -> Offer | None:
    offers = now.decided.case.offers
    done = [each for each in offers if each.outcome == "installed" and each.is_over]
    return latest(done) if done else None


async def get_deployment(call: Call[ActionQuery, None]) -> web.Response:
    """Return what the action installs, as long as the device is shown it."""
    named = await actions.find(call, PROTOCOL, call.path("action"))
    if not (await actions.now(call, named)).shows(named.ordinal):
        raise NotFound(f"Action {named.ordinal} is not to be installed.")
    return await _deployment(call, named)


async def get_installed(call: Call[ActionQuery, None]) -> web.Response:
    """Return what an action has installed."""
    named = await actions.find(call, PROTOCOL, call.path("action"))
    if not named.ended_as("installed"):
        raise NotFound(f"Action {named.ordinal} has installed nothing.")
    return await _deployment(call, named)


async def _deployment(call: Call[ActionQuery, None], named: NamedAction) -> web.Response:
    chunk = await files.chunk(call, named.known.control, named.offer)
    past = await history.of_action(call, named, call.query.action_history)
    deployment = HawkbitDeployment("forced", "forced", [chunk])
    body = DeploymentBase(str(named.offer.ordinal), deployment, past or msgspec.UNSET)
    return respond.resource(call, body, named.known.seen.counts.size)


async def get_cancellation(call: AnyCall) -> web.Response:
    """Return which action the device should give up."""
    named = await actions.find(call, PROTOCOL, call.path("action"))
    if not (await actions.now(call, named)).cancels(named.ordinal):
        raise NotFound(f"Action {named.ordinal} is not to be given up.")
    text = str(named.ordinal)
    size = named.known.seen.counts.size
    return respond.resource(call, Cancellation(text, StopId(text)), size)
