"""The rules of releases: what can be added to a project's, withdrawn, and which is the latest.

Pure. A release is a version of a model, with its artifacts: files that never change. It is
withdrawn once and for good; its version is not used a second time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import ArtifactAdded, ReleaseAdded, ReleaseWithdrawn
from firmtrail.rules import version
from firmtrail.rules.device import Refused

ARTIFACTS_MAX = 64
"""Of one release; a device is told of all of them at once."""


class ReleaseKey(NamedTuple):
    """Which release of a project: a version belongs to its model."""

    model: str
    version: str


class ReleaseArtifact(msgspec.Struct, frozen=True):
    """A file of a release."""

    name: str
    size_bytes: int
    sha256: str


class ReleaseState(msgspec.Struct, frozen=True):
    """A release as its events leave it."""

    model: str
    version: str
    position: int
    """Where it was added, which tells the later of two."""
    added_at_ms: int
    has_notes: bool = False
    withdrawn_position: int | None = None
    withdrawn_at_ms: int | None = None
    artifacts: tuple[ReleaseArtifact, ...] = ()
    """By name."""

    @property
    def is_withdrawn(self) -> bool:
        return self.withdrawn_position is not None

    def artifact(self, name: str) -> ReleaseArtifact | None:
        return next((each for each in self.artifacts if each.name == name), None)


type Releases = Mapping[ReleaseKey, ReleaseState]
"""All releases of a project."""

type Rank = tuple[int, int, int, bool]
"""Where a version is among those that are no pre-releases; the pre-releases of one share one."""


class ModelReleases(NamedTuple):
    """A model's releases that outdate what is lower: those neither withdrawn nor pre-releases."""

    latest: ReleaseState
    places: Sequence[Rank]
    """Theirs, the lowest first."""
    since_ms: Sequence[int]
    """For each of these: when it or a higher one was added, the first of them."""


type CurrentReleases = Mapping[str, ModelReleases]
"""By model; one that has no such release is left out."""


def stream(key: ReleaseKey) -> str:
    return f"release/{key.model}/{key.version}"


def key_of(stream: str) -> ReleaseKey | None:
    """The release that a stream is of; None where it is of something else. No name holds a "/"."""
    kind, _, rest = stream.partition("/")
    return ReleaseKey(*rest.split("/")) if kind == "release" else None


def evolve(releases: Releases, recorded: Recorded) -> Releases:
    """The project's releases after an event of any kind."""
    key = key_of(recorded.stream)
    if key is None:
        return releases
    return {**releases, key: _evolve(releases.get(key), recorded)}


def _evolve(release: ReleaseState | None, recorded: Recorded) -> ReleaseState:
    event = recorded.event
    if isinstance(event, ReleaseAdded):
        at = (recorded.position, recorded.recorded_at_ms)
        return ReleaseState(event.model, event.version, *at, has_notes=event.notes is not None)
    assert release is not None, f"{recorded.stream} was never added"
    match event:
        case ArtifactAdded(name, size_bytes, sha256):
            artifacts = (*release.artifacts, ReleaseArtifact(name, size_bytes, sha256))
            by_name = sorted(artifacts, key=lambda artifact: artifact.name)
            return replace(release, artifacts=tuple(by_name))
        case ReleaseWithdrawn():
            return replace(
                release,
                withdrawn_position=recorded.position,
                withdrawn_at_ms=recorded.recorded_at_ms,
            )
    return release


def decide_addition(releases: Releases, wanted: ReleaseAdded) -> ReleaseAdded:
    """Raises `Refused` where the version was added before, also if it was withdrawn since."""
    if ReleaseKey(wanted.model, wanted.version) in releases:
        raise Refused("release_exists", f"{wanted.version} of {wanted.model} is a release already")
    return wanted


def decide_artifact(
    releases: Releases, key: ReleaseKey, wanted: ArtifactAdded
) -> ArtifactAdded | None:
    """None where the release has this very file already. Raises `Refused`.

    What is there stays, so that a device that was told of a digest finds its bytes.
    """
    release = existing(releases, key)
    before = release.artifact(wanted.name)
    if before is not None and before.sha256 == wanted.sha256:
        return None
    if before is not None:
        raise Refused("artifact_exists", f"{wanted.name} has other bytes, of {before.sha256}")
    if release.is_withdrawn:
        raise withdrawn(key)
    if len(release.artifacts) >= ARTIFACTS_MAX:
        raise Refused("too_many_artifacts", f"a release has at most {ARTIFACTS_MAX} artifacts")
    return wanted


def decide_withdrawal(releases: Releases, key: ReleaseKey) -> ReleaseWithdrawn:
    """Raises `Refused` where it is withdrawn already: the first reason stands."""
    if existing(releases, key).is_withdrawn:
        raise withdrawn(key)
    return ReleaseWithdrawn()


def existing(releases: Releases, key: ReleaseKey) -> ReleaseState:
    """Raises `Refused` where there is no such release."""
    if key not in releases:
        raise Refused("unknown_release", f"{key.model} has no release {key.version}", status=404)
    return releases[key]


def withdrawn(key: ReleaseKey) -> Refused:
    """What is refused because the release is withdrawn."""
    return Refused("release_withdrawn", f"{key.version} of {key.model} is withdrawn")


def latest(releases: Iterable[ReleaseState]) -> dict[str, ReleaseState]:
    """Each model's latest release: of the highest precedence, not withdrawn, no pre-release.

    Of several of one precedence, which differ in build metadata alone, it is the one added last.
    A model that has none is left out.
    """
    return {model: outdating.latest for model, outdating in current(releases).items()}


def current(releases: Iterable[ReleaseState]) -> CurrentReleases:
    """What outdates, of each model."""
    found: dict[str, list[ReleaseState]] = {}
    for release in releases:
        if not release.is_withdrawn and version.precedence(release.version).prerelease is None:
            found.setdefault(release.model, []).append(release)
    return {model: _outdating(sorted(found[model], key=_rank)) for model in found}


def _outdating(ranked: Sequence[ReleaseState]) -> ModelReleases:
    since_ms = [*accumulate((each.added_at_ms for each in reversed(ranked)), min)]
    places = [_place(each.version) for each in ranked]
    return ModelReleases(ranked[-1], places, since_ms[::-1])


def as_of(releases: Iterable[ReleaseState], stop: int) -> list[ReleaseState]:
    """What was a release after the log's first `stop` events, and whether it was withdrawn then;
    artifacts are as they are."""
    return [
        replace(each, withdrawn_position=None, withdrawn_at_ms=None)
        if each.withdrawn_position is not None and each.withdrawn_position >= stop
        else each
        for each in releases
        if each.position < stop
    ]


def outdated_since_ms(
    current: CurrentReleases, model: str | None, running: str | None
) -> int | None:
    """Since when there has been a higher release than what a device of this model runs.

    None where there is none, so that it is not outdated, and where either is unknown.
    """
    outdating = current.get(model or "")
    if running is None or outdating is None:
        return None
    lower = bisect_right(outdating.places, _place(running))
    return outdating.since_ms[lower] if lower < len(outdating.places) else None


def _rank(release: ReleaseState) -> tuple[Rank, int]:
    return _place(release.version), release.position


def _place(text: str) -> Rank:
    found = version.precedence(text)
    return found.major, found.minor, found.patch, found.prerelease is None
