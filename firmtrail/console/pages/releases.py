"""Shows the releases of a project, and a single one with its artifacts, its devices and its
rollouts; adds and withdraws releases."""

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from firmtrail.commands import releases as commands
from firmtrail.console import confirm, places, render
from firmtrail.console.confirm import Confirmation, ConfirmationForm, Figure
from firmtrail.console.here import Moment
from firmtrail.console.rows import OPERATE, PROJECT, PageQuery, action, page
from firmtrail.events.fleet import ReleaseAdded
from firmtrail.http.attention import recall_of
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.errors import NotFound
from firmtrail.http.rollouts import opens_at_ms, phase_of
from firmtrail.http.scalars import FreeText, Name, VersionText
from firmtrail.projections import fleet_versions, releases
from firmtrail.projections.releases import ReleaseWithTexts
from firmtrail.rules import version
from firmtrail.rules.release import ReleaseKey, ReleaseState
from firmtrail.rules.rollout import RolloutState

RELEASES = f"{PROJECT}/releases"
RELEASE = f"{RELEASES}/{{model}}/{{version}}"

ROLLOUTS_MAX = 20


class ReleasesPageQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses a model."""

    model: Name | None = None


class ReleaseForm(ConfirmationForm, frozen=True, kw_only=True):
    """Describes a release to add."""

    model: Name
    version: VersionText
    notes: FreeText | None = None


class ShownRelease(NamedTuple):
    """Holds a release, whether it is the latest of its model, and how many devices run it."""

    release: ReleaseWithTexts
    is_latest: bool
    devices: int


class Fleet(NamedTuple):
    """Holds the releases of a project and the devices of each model."""

    size: int
    releases: Mapping[ReleaseKey, ShownRelease]
    of_model: Mapping[str, int]


def key_of(call: AnyCall) -> ReleaseKey:
    return ReleaseKey(call.path("model"), call.path("version"))


async def _fleet(call: AnyCall, now: ConsistentRead) -> Fleet:
    size, found = releases.with_texts(await now.reader.read(releases.load_with_texts(call.log_id)))
    _, counts = await fleet_versions.counts(now.reader, call.log_id)
    running = {ReleaseKey(each.model or "", each.version or ""): each.devices for each in counts}
    of_model: dict[str, int] = {}
    for each in counts:
        of_model[each.model or ""] = of_model.get(each.model or "", 0) + each.devices
    latest = {ReleaseKey(each.model, each.version) for each in now.control.latest.values()}
    shown = {
        key: ShownRelease(each, key in latest, running.get(key, 0)) for key, each in found.items()
    }
    return Fleet(size, shown, of_model)


async def _fleet_with(call: AnyCall, now: ConsistentRead, key: ReleaseKey) -> Fleet:
    """Returns the releases. Raises `NotFound` if this one is none of them."""
    found = await _fleet(call, now)
    if key not in found.releases:
        raise NotFound(f"{key.model} has no release {key.version}.")
    return found


async def get_releases(call: Call[ReleasesPageQuery, None]) -> web.Response:
    """Show the releases by model, the highest version first."""
    async with consistent_read(call) as now:
        fleet = await _fleet(call, now)
    chosen = [key for key in fleet.releases if call.query.model in {None, key.model}]
    chosen.sort(key=lambda key: version.precedence(key.version), reverse=True)
    models: dict[str, list[ShownRelease]] = {}
    for key in sorted(chosen, key=lambda key: key.model):
        models.setdefault(key.model, []).append(fleet.releases[key])
    return render.page(
        call,
        "releases.html",
        title="Releases",
        moment=Moment(fleet.size),
        models=models,
        of_model=fleet.of_model,
        model=call.query.model,
    )


async def get_release(call: Call[PageQuery, None]) -> web.Response:
    """Show a release: its artifacts, the devices that run it, and its rollouts."""
    key = key_of(call)
    async with consistent_read(call) as now:
        fleet = await _fleet_with(call, now, key)
        where = await places.places(call, now)
        rollouts = _rollouts_of(now, key)
    shown = fleet.releases[key]
    state = shown.release.release
    return render.page(
        call,
        "release.html",
        title=f"{key.version} of {key.model}",
        moment=Moment(fleet.size),
        shown=shown,
        place=where.of(state.position),
        withdrawn_place=None
        if state.withdrawn_position is None
        else where.of(state.withdrawn_position),
        of_model=fleet.of_model.get(key.model, 0),
        rollouts=[
            (each, phase_of(call, now.control, each), opens_at_ms(call, now.control, each))
            for each in rollouts
        ],
        automatic=_automatic(now, state),
        recall=recall_of(now.control, key),
    )


def _rollouts_of(now: ConsistentRead, key: ReleaseKey) -> list[RolloutState]:
    """Returns the newest rollouts and recalls of a release."""
    found = [
        each
        for each in now.control.rollouts.values()
        if each.model == key.model and key.version in {each.version, each.bad_version}
    ]
    return sorted(found, key=lambda each: -each.position)[:ROLLOUTS_MAX]


def _automatic(now: ConsistentRead, of: ReleaseState) -> RolloutState | None:
    """Returns the rollout that adding the release started automatically."""
    started = now.control.rollouts.values()
    is_own = (each for each in started if each.release_position == of.position)
    return next((each for each in is_own if each.version == of.version), None)


async def get_new(call: Call[PageQuery, None]) -> web.Response:
    """Show the form of a new release."""
    async with consistent_read(call) as now:
        _, counts = await fleet_versions.counts(now.reader, call.log_id)
    models = {each.model for each in counts} | {key.model for key in now.control.releases}
    return render.page(
        call,
        "release_new.html",
        title="Add a release",
        moment=Moment(now.size),
        models=sorted(name for name in models if name),
        automatic=sorted(now.control.settings.auto_rollout),
    )


async def post_new(call: Call[PageQuery, ReleaseForm]) -> web.Response:
    """Add a release."""
    body = call.body
    confirm.check_text("notes", body.notes)
    by = commands.ReleaseAuthor(call.caller.actor, call.caller.actor_id)
    add = commands.add(ReleaseAdded(body.model, body.version), body.notes, by=by)
    await call.services.recorder.act(call.log_id, add)
    return render.redirect(call, "releases", body.model, body.version)


async def get_withdrawal(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm the withdrawal of a release."""
    key = key_of(call)
    async with consistent_read(call) as now:
        fleet = await _fleet_with(call, now, key)
        running = [each for each in _rollouts_of(now, key) if each.phase == "running"]
    asked = Confirmation(
        title=f"Withdraw {key.version} of {key.model}",
        lead="It is never offered again, for good, and its version is not used a second time. "
        "Devices that run it keep it: to send them back, recall it instead.",
        button=f"Withdraw {key.version}",
        back=("releases", *key),
        numbers=(
            Figure(
                "devices run it and keep it",
                fleet.releases[key].devices,
                "warn",
                of_one="device runs it and keeps it",
            ),
            Figure(
                "rollouts of it stop offering", len(running), of_one="rollout of it stops offering"
            ),
        ),
        needs_reason=True,
        nav="releases",
    )
    return confirm.page(call, asked, size=fleet.size)


async def post_withdrawal(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """Withdraw a release for good."""
    key, reason = key_of(call), call.body.reason
    confirm.check_reason(call.body, is_needed=True)
    withdraw = commands.withdraw(key, reason or "", actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, withdraw)
    return render.redirect(call, "releases", *key)


ROUTES = (
    page(RELEASES, get_releases, query=ReleasesPageQuery, is_view=True),
    page(f"{RELEASES}/new", get_new, OPERATE, is_view=True),
    action(f"{RELEASES}/new", post_new, form=ReleaseForm, refusals={409}),
    page(RELEASE, get_release, is_view=True),
    page(f"{RELEASE}/withdraw", get_withdrawal, OPERATE),
    action(f"{RELEASE}/withdraw", post_withdrawal, form=ConfirmationForm, refusals={409}),
)
