"""Commands on releases: add one, add an artifact to it, withdraw it.

Each runs inside one commit of the project's log and raises `Refused` where a rule says no.
"""

from firmtrail import release
from firmtrail.commit import Commit
from firmtrail.events import ArtifactAdded, ReleaseAdded
from firmtrail.projections import releases
from firmtrail.record import Command
from firmtrail.release import Key, Releases


def add(wanted: ReleaseAdded, notes: str | None, *, actor: str) -> Command[None]:
    """Add a release, with its notes beside the log."""

    async def command(commit: Commit) -> None:
        event = release.decide_addition(await _releases(commit), wanted)
        stream = release.stream(Key(wanted.model, wanted.version))
        commit.record(stream, event, actor=actor, text=notes)

    return command


def add_artifact(key: Key, wanted: ArtifactAdded, *, actor: str) -> Command[bool]:
    """Add a file, whose bytes are stored already, to a release; False where it was there before.

    A file of other bytes under its name is refused.
    """

    async def command(commit: Commit) -> bool:
        event = release.decide_artifact(await _releases(commit), key, wanted)
        if event is not None:
            commit.record(release.stream(key), event, actor=actor)
        return event is not None

    return command


def withdraw(key: Key, reason: str, *, actor: str) -> Command[None]:
    """Withdraw a release for good, with the reason beside the log."""

    async def command(commit: Commit) -> None:
        event = release.decide_withdrawal(await _releases(commit), key)
        commit.record(release.stream(key), event, actor=actor, text=reason)

    return command


async def _releases(commit: Commit) -> Releases:
    """As they were before this commit, which records one event of a release at most."""
    [rows] = await commit.run(commit.load_releases())
    return releases.state(rows)
