"""Tests which artifact a client gets, and which version its name for one means."""

import pytest
from msgspec.structs import replace

from firmtrail.events.fleet import ArtifactAdded, DeviceChanged, SettingsChanged
from firmtrail.rules.artifact import Protocol, artifact_for, version_named
from firmtrail.rules.release import ReleaseArtifact, ReleaseState
from firmtrail.rules.settings import Settings
from firmtrail.rules.target import decide
from tests.steering import Fleet


def release_of(*names: str) -> ReleaseState:
    artifacts = tuple(ReleaseArtifact(name, 1, "aa" * 32) for name in names)
    return ReleaseState("m", "1.0.0", 0, 0, artifacts=artifacts)


@pytest.mark.parametrize(
    ("protocol", "names", "setting", "expected"),
    [
        ("hawkbit", ["notes.txt"], None, "notes.txt"),
        ("hawkbit", ["fw.swu", "notes.txt"], None, "fw.swu"),
        ("hawkbit", ["fw.raucb", "notes.txt"], None, "fw.raucb"),
        ("hawkbit", ["fw.swu", "fw.raucb"], None, None),
        ("hawkbit", ["fw.swu", "fw.raucb"], ".raucb", "fw.raucb"),
        ("hawkbit", ["a.img", "b.img"], "b.img", "b.img"),
        ("hawkbit", ["a.img", "b.img"], ".img", None),
        ("hawkbit", ["fw.swu", "b.img"], "gone.img", "fw.swu"),
        ("hawkbit", ["fw.mender", "b.img"], None, None),
        ("hawkbit", [], None, None),
        ("hawkbit", [], ".swu", None),
        ("mender", ["fw.mender", "fw.swu"], None, "fw.mender"),
        ("memfault", ["fw.bin", "fw.elf"], None, "fw.bin"),
        ("plain", ["fw.swu", "notes.md"], None, "fw.swu"),
        ("native", ["a", "b"], None, None),
    ],
)
def test_a_client_gets_the_only_artifact_or_the_one_that_is_named_or_fits(
    protocol: Protocol, names: list[str], setting: str | None, expected: str | None
) -> None:
    settings = Settings(artifact_names={protocol: setting} if setting else {})
    found = artifact_for(protocol, release_of(*names), settings)
    assert (found and found.name) == expected


@pytest.fixture
def fleet() -> Fleet:
    """Returns a fleet: d1 of model m runs 1.0.0 and is pinned to 1.1.0, which has two files."""
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0")
    fleet.register("d1")
    fleet.record("device/d1", DeviceChanged(pinned="1.1.0"))
    for name in ("a.img", "b.img"):
        fleet.record("release/m/1.1.0", ArtifactAdded(name, 1, "aa" * 32))
    return fleet


def reason(fleet: Fleet, protocol: Protocol) -> str:
    return decide(replace(fleet.case(), protocol=protocol)).reason


def test_a_release_of_which_no_artifact_is_meant_for_the_protocol_is_not_offered_in_it(
    fleet: Fleet,
) -> None:
    assert (reason(fleet, "native"), reason(fleet, "hawkbit")) == ("pinned", "no_artifact")
    fleet.record("project/acme", SettingsChanged(artifact_names={"hawkbit": "a.img"}))
    assert (reason(fleet, "mender"), reason(fleet, "hawkbit")) == ("no_artifact", "pinned")


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        ("m", "1.6.0", "1.6.0"),
        ("m", "m-1.6.0", "1.6.0"),
        ("n", "m-1.6.0", None),
        (None, "1.6.0", "1.6.0"),
        ("m", "winter", "1.1.0"),
        ("n", "winter", None),
        (None, "winter", None),
        ("m", "1.6.0_INCONSISTENT", None),
        ("m", "winter_INCONSISTENT", None),
        ("m", "v1.6.0", None),
        ("m", "1.6", None),
        ("m", "", None),
    ],
)
def test_a_name_means_a_version_only_as_a_whole(
    fleet: Fleet, model: str | None, text: str, expected: str | None
) -> None:
    named = ArtifactAdded("fw.mender", 1, "aa" * 32, provides_name="winter")
    fleet.record("release/m/1.1.0", named)
    assert version_named(fleet.control, model, text) == expected


def test_the_release_added_last_has_a_name_that_two_artifacts_give_themselves(fleet: Fleet) -> None:
    fleet.release("1.2.0")
    for version in ("1.2.0", "1.0.0"):
        named = ArtifactAdded("fw.mender", 1, "aa" * 32, provides_name="winter")
        fleet.record(f"release/m/{version}", named)
    assert version_named(fleet.control, "m", "winter") == "1.2.0"
