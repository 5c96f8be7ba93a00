"""Folds a project's settings, releases, rollouts and halt into its `Control`, and decides on
commands that concern several of them.

`Control` is the fold of the control events. It is small, whatever the fleet's size, so a process
keeps it in memory; `count` is the number of the log's control events in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import ReleaseAdded, SettingsChanged
from firmtrail.events.steering import Halted, Resumed, RollbackStarted, RolloutStarted
from firmtrail.rules import release, rollout, settings, version
from firmtrail.rules.device import Refused
from firmtrail.rules.plan import HaltedTime
from firmtrail.rules.release import CurrentReleases, ReleaseKey, Releases, ReleaseState
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.settings import Settings
from firmtrail.rules.standing import Purpose, Standings
from firmtrail.rules.window import DEVICE_ZONE

type HaltScope = Literal["rollouts", "all"]
"""The extent of a halt: everything but rollbacks, or everything."""


@dataclass(frozen=True)
class Control:
    """Holds everything in a project that decides what devices run, after some of its log."""

    count: int = 0
    settings: Settings = settings.INITIAL
    halt: HaltScope | None = None
    halts: tuple[HaltedTime, ...] = ()
    """Every halt so far: the time of a plan does not count while one lasts."""
    releases: Releases = field(default_factory=dict)
    rollouts: Mapping[str, RolloutState] = field(default_factory=dict)
    """By id."""

    @cached_property
    def deciding(self) -> Mapping[Purpose, Sequence[RolloutState]]:
        """Returns the rollouts that were not aborted, the newest first."""
        found: dict[Purpose, list[RolloutState]] = {}
        for each in sorted(self.rollouts.values(), key=lambda each: -each.position):
            if each.phase != "aborted":
                found.setdefault((each.model, each.bad_version), []).append(each)
        return found

    @cached_property
    def standings(self) -> Standings:
        """Returns what the rollouts that were not aborted do at any time."""
        over = {each.id for each in self.rollouts.values() if is_over(self, each)}
        return Standings(self.deciding, self.halts, over)

    @cached_property
    def latest(self) -> Mapping[str, ReleaseState]:
        return release.latest(self.releases.values())

    @cached_property
    def current(self) -> CurrentReleases:
        """Returns, by model, the releases that can outdate a device."""
        return release.current(self.releases.values())

    @cached_property
    def followed(self) -> Mapping[str, ReleaseState]:
        """Returns the latest release of each model that no rollout, in any state, carries."""
        carried = {
            ReleaseKey(each.model, each.version)
            for each in self.rollouts.values()
            if not each.is_rollback and each.version is not None
        }
        return release.latest(each for key, each in self.releases.items() if key not in carried)

    @cached_property
    def versions_provided(self) -> Mapping[tuple[str, str], str]:
        """Returns, by model and the name that a Mender artifact gives itself, the version of its
        release: the one added last, if several releases have an artifact of that name."""
        ordered = sorted(self.releases.values(), key=lambda each: each.position)
        return {
            (each.model, artifact.provides_name): each.version
            for each in ordered
            for artifact in each.artifacts
            if artifact.provides_name is not None
        }

    @cached_property
    def models(self) -> frozenset[str]:
        return frozenset(key.model for key in self.releases)

    @cached_property
    def is_timed(self) -> bool:
        """Returns whether a decision may change without an event, because time passes."""
        of_project = self.settings
        return bool(
            of_project.window or of_project.model_windows or of_project.cohort_windows
        ) or any(
            each.plan or each.start_at_ms is not None or each.window_times
            for each in self.rollouts.values()
            if each.phase != "aborted"
        )

    @cached_property
    def asks_for_zones(self) -> bool:
        """Returns whether a window opens by the clock of each device."""
        of_project, rollouts = self.settings, self.rollouts.values()
        windows = (
            of_project.window,
            *of_project.model_windows.values(),
            *of_project.cohort_windows.values(),
            *(each.window_times for each in rollouts if each.phase != "aborted"),
        )
        return any(each is not None and each.timezone == DEVICE_ZONE for each in windows)

    @cached_property
    def watching(self) -> bool:
        """Returns whether a rollout may pause, or its phase end, because of the outcomes of its
        offers."""
        return any(each.watches or each.has_conditions for each in self.rollouts.values())


def evolve(control: Control, recorded: Recorded) -> Control:
    """Returns the control after a further event of any kind."""
    event = recorded.event
    if not event.IS_CONTROL:
        return control
    changed, now_ms = control, recorded.recorded_at_ms
    kind, _, name = recorded.stream.partition("/")
    match event:
        case SettingsChanged():
            changed = replace(control, settings=settings.evolve(control.settings, event))
        case Halted(all=is_all):
            halts = control.halts if control.halt else (*control.halts, HaltedTime(now_ms))
            changed = replace(control, halt="all" if is_all else "rollouts", halts=halts)
        case Resumed():
            ended = tuple(each._replace(end_ms=now_ms) for each in control.halts[-1:])
            changed = replace(control, halt=None, halts=(*control.halts[:-1], *ended))
        case RolloutStarted() | RollbackStarted():
            changed = _with_rollout(control, rollout.started(recorded))
        case _ if kind == "rollout":
            after = rollout.evolve(control.rollouts[name], recorded, control.halts)
            changed = _with_rollout(control, after)
        case _:
            changed = replace(control, releases=release.evolve(control.releases, recorded))
    return replace(changed, count=control.count + 1)


def _with_rollout(control: Control, changed: RolloutState) -> Control:
    return replace(control, rollouts={**control.rollouts, changed.id: changed})


def is_withdrawn(control: Control, model: str, of: str) -> bool:
    found = control.releases.get(ReleaseKey(model, of))
    return found is not None and found.is_withdrawn


def is_over(control: Control, found: RolloutState) -> bool:
    """Returns whether the release that the rollout leads to was withdrawn."""
    return found.version is not None and is_withdrawn(control, found.model, found.version)


def decide_rollout(control: Control, wanted: RolloutStarted) -> RolloutStarted:
    """Returns the event of the rollout. Raises `Refused` if there is no such release, or if it is
    withdrawn."""
    _check_target(control, wanted.model, wanted.version, "version")
    return wanted


def automatic_rollout(
    control: Control, added: ReleaseAdded, position: int, person: str | None
) -> RolloutStarted | None:
    """Returns the rollout that a new release starts automatically. Returns None for a pre-release,
    and if the settings name none for its model. It needs every approval that the project asks for:
    its devices are not counted."""
    wanted = control.settings.auto_rollout.get(added.model)
    if wanted is None or version.precedence(added.version).prerelease:
        return None
    return RolloutStarted(
        added.version,
        added.model,
        wanted.plan[0].reach if wanted.plan else rollout.BUCKETS,
        failed_percent=wanted.failed_percent,
        min_reports=wanted.min_reports,
        plan=wanted.plan or None,
        window=wanted.window,
        approvals=control.settings.approvals or None,
        started_by=person if control.settings.approvals else None,
        release_position=position,
    )


def models_with(control: Control, of: str) -> list[str]:
    """Returns the models that have a release of this version that is not withdrawn. Raises
    `Refused` if there is none."""
    found = sorted(
        key.model
        for key, each in control.releases.items()
        if key.version == of and not each.is_withdrawn
    )
    if not found:
        detail = f"No model has a release {of} that can be rolled out. Add the release first."
        raise Refused("unknown_release", detail, status=422, member="version")
    return found


def running_rollout(control: Control, like: RolloutStarted) -> RolloutState | None:
    """Returns the newest rollout of the same version to the same devices that has no plan and was
    not aborted."""
    wanted = (like.version, like.cohort, like.tag)
    rollouts = control.deciding.get((like.model, None), ())
    return next(
        (
            each
            for each in rollouts
            if (each.version, each.cohort, each.tag) == wanted and not each.plan
        ),
        None,
    )


def decide_rollback(control: Control, wanted: RollbackStarted) -> RollbackStarted:
    """Returns the event of the rollback. Raises `Refused` if a version that it sends devices to is
    not a release, or is withdrawn.

    The caller withdraws the bad release in the same commit. As no target is withdrawn and every
    bad version is, no two rollbacks send a device back and forth.
    """
    for member, target in (("to", wanted.version), ("fallback", wanted.fallback)):
        if target == wanted.bad_version:
            detail = "A recall must lead away from its bad version. Choose another version."
            raise Refused("invalid", detail, status=422, member=member)
        if target is not None:
            _check_target(control, wanted.model, target, member)
    return wanted


def _check_target(control: Control, model: str, target: str, member: str) -> None:
    key = ReleaseKey(model, target)
    found = control.releases.get(key)
    if found is None:
        detail = f"Model {model} has no release {target}. Add the release first."
        raise Refused("unknown_release", detail, status=422, member=member)
    if found.is_withdrawn:
        raise release.withdrawn(key)
    check_not_recalled(control, key)


def check_not_recalled(control: Control, key: ReleaseKey) -> None:
    """Raises `Refused` while a rollback sends devices away from this version. It may have begun
    before the version was a release, so that there was none to withdraw; an order to that version
    would send devices to and fro."""
    for each in control.rollouts.values():
        is_its = (each.model, each.bad_version) == (key.model, key.version)
        if is_its and each.phase != "aborted":
            detail = f"Recall {each.id} sends devices away from {key.version} of {key.model}."
            raise Refused("release_recalled", detail)


def existing(control: Control, rollout_id: str) -> RolloutState:
    """Returns the rollout. Raises `Refused` if there is no such rollout."""
    if rollout_id not in control.rollouts:
        raise Refused("unknown_rollout", f"There is no rollout {rollout_id}.", status=404)
    return control.rollouts[rollout_id]


def commandable(control: Control, rollout_id: str) -> RolloutState:
    """Returns the rollout. Raises `Refused` if it takes no commands but abort."""
    found = existing(control, rollout_id)
    if found.version is not None and is_over(control, found):
        raise release.withdrawn(ReleaseKey(found.model, found.version))
    return found


def decide_halt(control: Control, *, is_all: bool) -> Halted:
    if control.halt == ("all" if is_all else "rollouts"):
        raise Refused("halted", "The project is already halted.")
    return Halted(all=is_all)


def decide_resume(control: Control) -> Resumed:
    if control.halt is None:
        raise Refused("not_halted", "The project is not halted.")
    return Resumed()
