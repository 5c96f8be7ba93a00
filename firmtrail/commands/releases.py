"""Makes the commands on releases: add one, add an artifact to it, withdraw it.

Each runs inside one commit of the project's log and raises `Refused` if a rule refuses it.
"""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

from firmtrail.access import credentials
from firmtrail.events.fleet import ArtifactAdded, ReleaseAdded
from firmtrail.projections import releases
from firmtrail.projections.releases import ReleaseTexts, ReleaseWithTexts
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, release, rollout
from firmtrail.rules.release import ReleaseKey, Releases


class ReleaseAuthor(NamedTuple):
    """Names the caller that adds a release, and the person that it is or belongs to."""

    actor: str
    person: str | None = None


class ChangedRelease(NamedTuple):
    """Holds a release after a command."""

    release: ReleaseWithTexts
    is_latest: bool
    rollout: str | None = None
    """The id of the rollout that its addition started."""


def add(
    wanted: ReleaseAdded, notes: str | None, *, by: ReleaseAuthor
) -> LogCommand[ChangedRelease]:
    """Adds a release, with its notes outside the log. In the same commit it starts the rollout that
    the project's settings name for its model, if they name one. The person that adds the release
    can't approve that rollout."""
    key = ReleaseKey(wanted.model, wanted.version)

    async def command(commit: Commit) -> ChangedRelease:
        before = await _releases(commit)
        started = _add(commit, release.decide_addition(_state(before), wanted), notes, by)
        return _after(commit, key, before, ReleaseTexts(notes, None))._replace(rollout=started)

    return command


def _add(commit: Commit, event: ReleaseAdded, notes: str | None, by: ReleaseAuthor) -> str | None:
    """Records a release; returns the id of the rollout that this starts automatically, if any.
    Raises `Refused` if a rollback sends devices away from its version."""
    key = ReleaseKey(event.model, event.version)
    control.check_not_recalled(commit.draft.control, key)
    stream = release.stream(key)
    position = commit.draft.record(stream, event, actor=by.actor, text=notes)
    automatic = control.automatic_rollout(commit.draft.control, event, position, by.person)
    if automatic is None:
        return None
    started = credentials.new_id("r")
    commit.draft.record(rollout.stream(started), automatic, actor=SYSTEM)
    return started


def add_artifact(key: ReleaseKey, wanted: ArtifactAdded, *, actor: str) -> LogCommand[bool]:
    """Adds a file, whose bytes are already stored, to a release; the result is False if the release
    already had it. A file with other bytes under its name is refused."""

    async def command(commit: Commit) -> bool:
        event = release.decide_artifact(_state(await _releases(commit)), key, wanted)
        if event is not None:
            commit.draft.record(release.stream(key), event, actor=actor)
        return event is not None

    return command


def publish(
    key: ReleaseKey, notes: str | None, wanted: ArtifactAdded, *, by: ReleaseAuthor
) -> LogCommand[bool]:
    """Adds a file, whose bytes are already stored, to a release, which is added first if there is
    none; the result is False if the release already had the file."""

    async def command(commit: Commit) -> bool:
        state = _state(await _releases(commit))
        if key not in state:
            _add(commit, release.decide_addition(state, ReleaseAdded(*key)), notes, by)
            state = reduce(release.evolve, commit.draft.fold.release_events, state)
        event = release.decide_artifact(state, key, wanted)
        if event is not None:
            commit.draft.record(release.stream(key), event, actor=by.actor)
        return event is not None

    return command


def withdraw(key: ReleaseKey, reason: str, *, actor: str) -> LogCommand[ChangedRelease]:
    """Withdraws a release for good, with the reason outside the log."""

    async def command(commit: Commit) -> ChangedRelease:
        before = await _releases(commit)
        event = release.decide_withdrawal(_state(before), key)
        commit.draft.record(release.stream(key), event, actor=actor, text=reason)
        return _after(commit, key, before, ReleaseTexts(before[key].texts.notes, reason))

    return command


async def _releases(commit: Commit) -> dict[ReleaseKey, ReleaseWithTexts]:
    """Returns the project's releases as they were before this commit."""
    [rows] = await commit.run(releases.load_with_texts(commit.draft.log_id))
    return releases.with_texts(rows)[1]


def _state(found: Mapping[ReleaseKey, ReleaseWithTexts]) -> Releases:
    return {key: each.release for key, each in found.items()}


def _after(
    commit: Commit,
    key: ReleaseKey,
    before: Mapping[ReleaseKey, ReleaseWithTexts],
    texts: ReleaseTexts,
) -> ChangedRelease:
    """Returns the release with the events that the commit recorded of it."""
    state = reduce(release.evolve, commit.draft.fold.release_events, _state(before))
    is_latest = release.latest(state.values()).get(key.model) == state[key]
    return ChangedRelease(ReleaseWithTexts(state[key], texts), is_latest)
