"""Takes the deployments of memfault-cli: a version for a cohort is a rollout for each model.

A release of Memfault spans hardware versions, so a deployment stands for the rollouts of all models
that have the version. Deploying again with a higher percentage advances them. The cohort "default"
stands for all devices.
"""

from collections.abc import Iterable
from http import HTTPMethod
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import steering
from firmtrail.http import respond
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.errors import NotFound
from firmtrail.http.scalars import Name, VersionText
from firmtrail.protocols.memfault.wire import (
    OPERATE,
    ORGANIZATION,
    READ,
    Data,
    Failed,
    bad_request,
    data,
    row,
)
from firmtrail.rules.control import Control
from firmtrail.rules.device import Refused
from firmtrail.rules.rollout import BUCKETS, RolloutState

EVERYONE = "default"
"""The cohort that stands for all devices."""
_SEPARATOR = "."
_DEPLOYMENTS = f"{ORGANIZATION}/deployments"


class WantedDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """Names the version, the cohort, and the share of its devices."""

    release: VersionText
    cohort: Name
    type: Literal["normal", "staged_rollout"] = "normal"
    rollout_percent: Annotated[int, Meta(ge=0, le=100)] = 100


class DeploymentQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters deployments."""

    release: VersionText | None = None
    cohort: Name | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the rollouts of a version to a cohort that were not aborted."""

    id: str
    """The ids of its rollouts."""
    type: Literal["normal", "staged_rollout"]
    status: Literal["done", "in_progress"]
    """`done`: it reaches all devices that it is for, and waits for no approval."""
    release: str
    cohort: str
    rollout_percent: float


async def post_deployment(call: Call[Any, WantedDeployment]) -> web.Response:
    """Roll a version out to a cohort, in every model that has it."""
    body = call.body
    reach = BUCKETS if body.type == "normal" else body.rollout_percent * 100
    cohort = None if body.cohort == EVERYONE else body.cohort
    wanted = steering.DeploymentOrder(body.release, cohort, reach, call.caller.actor_id)
    command = steering.deploy(wanted, actor=call.caller.actor)
    try:
        found = await call.services.recorder.act(call.log_id, command)
    except Refused as refused:
        return bad_request(refused.detail)
    return data(_shown(found))


async def get_deployments(call: Call[DeploymentQuery, None]) -> web.Response:
    """List the deployments that are under way or done."""
    async with consistent_read(call) as now:
        found = _deployed(now.control, call.query)
    return data(found)


async def delete_deployment(call: AnyCall) -> web.Response:
    """End a deployment: its rollouts are aborted."""
    ids = call.path("deployment").split(_SEPARATOR)
    async with consistent_read(call) as now:
        if not set(ids) <= now.control.rollouts.keys():
            raise NotFound("There is no such deployment.")
    abort = steering.abort_all(ids, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, abort)
    return respond.no_content()


def _deployed(control: Control, query: DeploymentQuery) -> list[Deployment]:
    """Returns the deployments: rollouts of one version and one cohort are one deployment."""
    groups: dict[tuple[str, str | None], list[RolloutState]] = {}
    for each in control.rollouts.values():
        if each.version is None or each.is_rollback or each.tag or each.phase == "aborted":
            continue
        if query.release in {None, each.version} and query.cohort in {None, _named(each.cohort)}:
            groups.setdefault((each.version, each.cohort), []).append(each)
    return [_shown(group) for group in groups.values()]


def _shown(rollouts: Iterable[RolloutState]) -> Deployment:
    ordered = sorted(rollouts, key=lambda each: each.position)
    reach = min(each.reach for each in ordered)
    is_approved = all(each.is_approved for each in ordered)
    return Deployment(
        id=_SEPARATOR.join(each.id for each in ordered),
        type="normal" if reach == BUCKETS else "staged_rollout",
        status="done" if reach == BUCKETS and is_approved else "in_progress",
        release=str(ordered[0].version),
        cohort=_named(ordered[0].cohort),
        rollout_percent=reach / 100,
    )


def _named(cohort: str | None) -> str:
    return cohort or EVERYONE


ROUTES = (
    row(
        HTTPMethod.POST,
        _DEPLOYMENTS,
        post_deployment,
        OPERATE,
        body=WantedDeployment,
        answers={200: Data[Deployment], 400: Failed},
    ),
    row(
        HTTPMethod.GET,
        _DEPLOYMENTS,
        get_deployments,
        READ,
        query=DeploymentQuery,
        answers={200: Data[list[Deployment]]},
    ),
    row(
        HTTPMethod.DELETE,
        f"{_DEPLOYMENTS}/{{deployment}}",
        delete_deployment,
        OPERATE,
        answers={204: None},
        refusals={409},
    ),
)
