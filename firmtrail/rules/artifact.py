"""Decides which artifact of a release a client gets, and which version the name of a client means.
Pure.

A client of Firmtrail's own interface sees all artifacts of a release and chooses itself. Clients of
other protocols take exactly one file, and some install whatever they get.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from firmtrail.rules import version
from firmtrail.rules.control import Control
from firmtrail.rules.release import ReleaseArtifact, ReleaseState
from firmtrail.rules.settings import Settings

type Protocol = Literal["native", "hawkbit", "memfault", "mender", "plain"]

NATIVE: Protocol = "native"

SUFFIXES: Mapping[Protocol, tuple[str, ...]] = {
    "hawkbit": (".swu", ".raucb"),
    "memfault": (".bin",),
    "mender": (".mender",),
    "plain": (".swu", ".bin"),
}
"""The ends of the names of files that a protocol's clients install."""


def artifact_for(
    protocol: Protocol, release: ReleaseState, settings: Settings
) -> ReleaseArtifact | None:
    """Returns the one artifact that a client of the protocol gets; None if it is not clear which.

    It is the only one; else the one that the project's setting `artifact_names` names, by its name
    or its suffix; else the one with a suffix of the protocol.
    """
    if len(release.artifacts) == 1:
        return release.artifacts[0]
    wanted = settings.artifact_names.get(protocol)
    named = _named(release, wanted) if wanted else None
    return named or _only([each for each in release.artifacts if _ends(each, protocol)])


def _named(release: ReleaseState, wanted: str) -> ReleaseArtifact | None:
    if not wanted.startswith("."):
        return release.artifact(wanted)
    return _only([each for each in release.artifacts if each.name.endswith(wanted)])


def _ends(artifact: ReleaseArtifact, protocol: Protocol) -> bool:
    return artifact.name.endswith(SUFFIXES.get(protocol, ()))


def _only(found: Sequence[ReleaseArtifact]) -> ReleaseArtifact | None:
    return found[0] if len(found) == 1 else None


def version_named(control: Control, model: str | None, text: str) -> str | None:
    """Returns the version that a client means by this text; None if it means none.

    It is the name that a Mender artifact of the model gives itself, or a SemVer version, or
    `{model}-{version}`. A text that only contains a version, such as "1.6.0_INCONSISTENT", is none.
    """
    if model is not None:
        if (found := control.versions_provided.get((model, text))) is not None:
            return found
        if version.is_valid(short := text.removeprefix(f"{model}-")):
            return short
    return text if version.is_valid(text) else None
