"""What is called to steer the fleet. A part of the table in routes.py."""

import msgspec

from firmtrail.http import check_in_api, rollout_api
from firmtrail.http import steering_bodies as wire
from firmtrail.http.callers import DEVICE
from firmtrail.http.lists import Listing, ListQuery
from firmtrail.http.route import Handler, Route
from firmtrail.http.user_routes import CHANGED, GET, LISTED, OPERATE, POST, READ, RULES, D, P

ROLLOUT = f"{P}/rollouts/{{id}}"


def _command(name: str, handler: Handler, *, body: type[msgspec.Struct], summary: str) -> Route:
    """A command on a rollout, which may say in which state it is meant (If-Match)."""
    return Route(
        method=POST,
        path=f"{ROLLOUT}/{name}",
        handler=handler,
        access=OPERATE,
        group="users call",
        summary=summary,
        body=body,
        answers={200: wire.Rollout},
        refusals=frozenset({404, 409, 412}),
        takes_key=True,
        sends=CHANGED,
    )


CHECK_INS = (
    Route(
        method=GET,
        path=f"{D}/update",
        handler=check_in_api.get_update,
        access=DEVICE,
        group="devices call",
        summary="What should the device run?",
        query=wire.UpdateQuery,
        answers={200: wire.Update, 304: None},
        refusals=RULES,
        is_view=True,
        is_polled=True,
    ),
)

STEERING = (
    Route(
        method=GET,
        path=f"{D}/explain",
        handler=check_in_api.get_explanation,
        access=READ,
        group="users call",
        summary="The rules that were checked for the device, and the one that decides.",
        answers={200: wire.Explanation, 304: None},
        refusals=RULES,
        is_view=True,
    ),
    Route(
        method=POST,
        path=f"{D}/retry",
        handler=check_in_api.post_retry,
        access=OPERATE,
        group="users call",
        summary="Clear the device's attempts at a version.",
        body=wire.Retry,
        answers={200: wire.Retry},
        refusals=RULES,
        takes_key=True,
    ),
    Route(
        method=POST,
        path=f"{D}/ask",
        handler=check_in_api.post_ask,
        access=OPERATE,
        group="users call",
        summary="Ask the device which version it runs.",
        query=wire.AskQuery,
        body=wire.WantedAsk,
        answers={202: wire.Asked, 200: wire.Asked},
        refusals=RULES,
        takes_key=True,
    ),
    Route(
        method=GET,
        path=f"{D}/asks",
        handler=check_in_api.get_asks,
        access=READ,
        group="users call",
        summary="The device's questions, the newest first.",
        query=ListQuery,
        answers={200: Listing[wire.Ask], 304: None},
        other_media=LISTED,
        is_view=True,
    ),
    Route(
        method=GET,
        path=f"{P}/rollouts",
        handler=rollout_api.get_rollouts,
        access=READ,
        group="users call",
        summary="The rollouts and rollbacks, the newest first.",
        query=ListQuery,
        answers={200: Listing[wire.Rollout], 304: None},
        other_media=LISTED,
        is_view=True,
    ),
    Route(
        method=POST,
        path=f"{P}/rollouts",
        handler=rollout_api.post_rollout,
        access=OPERATE,
        group="users call",
        summary="Roll a release out to a model, a cohort or a tag; or only count the devices.",
        body=wire.WantedRollout,
        answers={201: wire.Rollout, 200: wire.Rollout},
        refusals=RULES,
        takes_key=True,
    ),
    Route(
        method=GET,
        path=ROLLOUT,
        handler=rollout_api.get_rollout,
        access=READ,
        group="users call",
        summary="A rollout, and how far it is.",
        answers={200: wire.Rollout, 304: None},
        is_view=True,
    ),
    Route(
        method=GET,
        path=f"{ROLLOUT}/devices",
        handler=rollout_api.get_rollout_devices,
        access=READ,
        group="users call",
        summary="The devices that a rollout is meant for, each in exactly one state.",
        query=wire.RolloutDevicesQuery,
        answers={200: Listing[wire.RolloutDevice], 304: None},
        other_media=LISTED,
        is_view=True,
    ),
    _command(
        "advance",
        rollout_api.post_advance,
        body=wire.Advance,
        summary="Let a rollout reach more of its devices.",
    ),
    _command(
        "pause",
        rollout_api.post_pause,
        body=wire.Because,
        summary="Pause a rollout.",
    ),
    _command(
        "resume",
        rollout_api.post_resume,
        body=wire.Because,
        summary="Resume a paused rollout.",
    ),
    _command(
        "abort",
        rollout_api.post_abort,
        body=wire.Because,
        summary="End a rollout: it decides nothing any more.",
    ),
    Route(
        method=POST,
        path=f"{P}/rollbacks",
        handler=rollout_api.post_rollback,
        access=OPERATE,
        group="users call",
        summary="Withdraw a bad version and send the devices that run it back; or only count them.",
        body=wire.WantedRollback,
        answers={201: wire.StartedRollback, 200: wire.StartedRollback},
        refusals=RULES,
        takes_key=True,
    ),
    Route(
        method=POST,
        path=f"{P}/halt",
        handler=rollout_api.post_halt,
        access=OPERATE,
        group="users call",
        summary="Stop all offers in the project, except those of rollbacks.",
        body=wire.Halt,
        answers={200: wire.HaltState},
        refusals=RULES,
        takes_key=True,
    ),
    Route(
        method=POST,
        path=f"{P}/resume",
        handler=rollout_api.post_end_of_halt,
        access=OPERATE,
        group="users call",
        summary="End the project's halt.",
        body=wire.Because,
        answers={200: wire.HaltState},
        refusals=RULES,
        takes_key=True,
    ),
)
