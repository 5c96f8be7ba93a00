"""Decides which releases can be added and withdrawn, and which release is the latest. Pure.

A release is a version of a model, with its artifacts: files that never change. It is withdrawn for
good, and its version is not used a second time.
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
"""Per release; an answer to a device lists all of them."""


class ReleaseKey(NamedTuple):
    """Names a release of a project: a version belongs to its model."""

    model: str
    version: str


class ReleaseArtifact(msgspec.Struct, frozen=True):
    """Describes a file of a release."""

    name: str
    size_bytes: int
    sha256: str
    sha1: str | None = None
    md5: str | None = None
    """None: the artifact was recorded without these digests; the store of artifacts has them."""
    provides_name: str | None = None
    """The name that a Mender artifact gives itself."""
    device_types: tuple[str, ...] = ()


class ReleaseState(msgspec.Struct, frozen=True):
    """Holds the state of a release after its events."""

    model: str
    version: str
    position: int
    """The position at which it was added: the later of two releases has the higher position."""
    added_at_ms: int
    has_notes: bool = False
    withdrawn_position: int | None = None
    withdrawn_at_ms: int | None = None
    artifacts: tuple[ReleaseArtifact, ...] = ()
    """In the order of their names."""

    @property
    def is_withdrawn(self) -> bool:
        return self.withdrawn_position is not None

    def artifact(self, name: str) -> ReleaseArtifact | None:
        return next((each for each in self.artifacts if each.name == name), None)


type Releases = Mapping[ReleaseKey, ReleaseState]
"""All releases of a project."""

type Rank = tuple[int, int, int, bool]
"""The rank of a version; all pre-releases of a version have one rank, just below it."""


class ModelReleases(NamedTuple):
    """Holds the releases of a model that can outdate a device: not withdrawn, no pre-release."""

    latest: ReleaseState
    ranks: Sequence[Rank]
    """The ranks of these releases, the lowest first."""
    since_ms: Sequence[int]
    """For each of them, the time at which it or a higher one was first added."""


type CurrentReleases = Mapping[str, ModelReleases]
"""By model; a model that has no such release is left out."""


def stream(key: ReleaseKey) -> str:
    return f"release/{key.model}/{key.version}"


def key_of(stream: str) -> ReleaseKey | None:
    """Returns the release of a stream; None if it is not a release's. No name contains a "/"."""
    kind, _, rest = stream.partition("/")
    return ReleaseKey(*rest.split("/")) if kind == "release" else None


def evolve(releases: Releases, recorded: Recorded) -> Releases:
    """Returns the project's releases after an event of any kind."""
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
        case ArtifactAdded():
            artifacts = (*release.artifacts, artifact_of(event))
            by_name = sorted(artifacts, key=lambda artifact: artifact.name)
            return replace(release, artifacts=tuple(by_name))
        case ReleaseWithdrawn():
            return replace(
                release,
                withdrawn_position=recorded.position,
                withdrawn_at_ms=recorded.recorded_at_ms,
            )
    return release


def artifact_of(added: ArtifactAdded) -> ReleaseArtifact:
    """Returns the file that the event records."""
    return ReleaseArtifact(
        added.name,
        added.size,
        added.sha256,
        sha1=added.sha1,
        md5=added.md5,
        provides_name=added.provides_name,
        device_types=added.device_types,
    )


def decide_addition(releases: Releases, wanted: ReleaseAdded) -> ReleaseAdded:
    """Returns the event. Raises `Refused` if the version was ever added, withdrawn or not."""
    if ReleaseKey(wanted.model, wanted.version) in releases:
        raise Refused("release_exists", f"{wanted.model} already has a release {wanted.version}.")
    return wanted


def decide_artifact(
    releases: Releases, key: ReleaseKey, wanted: ArtifactAdded
) -> ArtifactAdded | None:
    """Returns the event; None if the release already has this very file. Raises `Refused`. A file
    never changes, so that a device that has learned a digest finds its bytes."""
    release = existing(releases, key)
    before = release.artifact(wanted.name)
    if before is not None and before.sha256 == wanted.sha256:
        return None
    if before is not None:
        raise Refused(
            "artifact_exists", f"{wanted.name} has other bytes, of SHA-256 {before.sha256}."
        )
    if release.is_withdrawn:
        raise withdrawn(key)
    if len(release.artifacts) >= ARTIFACTS_MAX:
        raise Refused("too_many_artifacts", f"A release has at most {ARTIFACTS_MAX} artifacts.")
    return wanted


def decide_withdrawal(releases: Releases, key: ReleaseKey) -> ReleaseWithdrawn:
    """Returns the event. Raises `Refused` if it is already withdrawn: the first reason stays."""
    if existing(releases, key).is_withdrawn:
        raise withdrawn(key)
    return ReleaseWithdrawn()


def existing(releases: Releases, key: ReleaseKey) -> ReleaseState:
    """Returns the release. Raises `Refused` if there is no such release."""
    if key not in releases:
        raise Refused(
            "unknown_release", f"Model {key.model} has no release {key.version}.", status=404
        )
    return releases[key]


def withdrawn(key: ReleaseKey) -> Refused:
    """Returns the refusal of a command because the release is withdrawn."""
    return Refused("release_withdrawn", f"Release {key.version} of {key.model} is withdrawn.")


def latest(releases: Iterable[ReleaseState]) -> dict[str, ReleaseState]:
    """Returns each model's latest release: the one of the highest precedence that is neither
    withdrawn nor a pre-release.

    Of several with one precedence, which differ in build metadata alone, it is the one added last.
    A model that has none is left out.
    """
    return {model: found.latest for model, found in current(releases).items()}


def current(releases: Iterable[ReleaseState]) -> CurrentReleases:
    """Returns, for each model, the releases that can outdate a device."""
    found: dict[str, list[ReleaseState]] = {}
    for release in releases:
        if not release.is_withdrawn and version.precedence(release.version).prerelease is None:
            found.setdefault(release.model, []).append(release)
    return {model: _of_model(found[model]) for model in found}


def _of_model(releases: Iterable[ReleaseState]) -> ModelReleases:
    ordered = sorted(releases, key=lambda each: (_rank(each.version), each.position))
    since_ms = [*accumulate((each.added_at_ms for each in reversed(ordered)), min)]
    ranks = [_rank(each.version) for each in ordered]
    return ModelReleases(ordered[-1], ranks, since_ms[::-1])


def as_of(releases: Iterable[ReleaseState], stop: int) -> list[ReleaseState]:
    """Returns the releases, and which of them were withdrawn, after the log's first `stop` events.
    Their artifacts are those of the present."""
    return [
        replace(each, withdrawn_position=None, withdrawn_at_ms=None)
        if each.withdrawn_position is not None and each.withdrawn_position >= stop
        else each
        for each in releases
        if each.position < stop
    ]


def known(releases: Releases, stop: int | None) -> Releases:
    """Returns the releases, and which of them were withdrawn, after the log's first `stop` events;
    None: now."""
    if stop is None:
        return releases
    then = as_of(releases.values(), stop)
    return {ReleaseKey(each.model, each.version): each for each in then}


def is_withdrawn(releases: Releases, model: str | None, of: str | None) -> bool:
    """Returns whether this version of this model is a release that is withdrawn."""
    found = releases.get(ReleaseKey(model or "", of or ""))
    return found is not None and found.is_withdrawn


def outdated_since_ms(
    current: CurrentReleases, model: str | None, running: str | None
) -> int | None:
    """Returns since when there has been a release of this model higher than the running version.
    None: there is none, or the model or the version is unknown."""
    found = current.get(model or "")
    if running is None or found is None:
        return None
    lower = bisect_right(found.ranks, _rank(running))
    return found.since_ms[lower] if lower < len(found.ranks) else None


def _rank(text: str) -> Rank:
    found = version.precedence(text)
    return found.major, found.minor, found.patch, found.prerelease is None
