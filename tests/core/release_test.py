"""Tests which releases can be added and withdrawn, and which is the latest."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import ArtifactAdded, DeviceRegistered, ReleaseAdded, ReleaseWithdrawn
from firmtrail.rules import release
from firmtrail.rules.device import Refused
from firmtrail.rules.release import (
    ARTIFACTS_MAX,
    ReleaseArtifact,
    ReleaseKey,
    Releases,
    ReleaseState,
)
from firmtrail.rules.version import is_higher

M1 = ReleaseKey("m", "1.0.0")
FULL = ArtifactAdded("full.bin", 3, "aa" * 32)
OTHER_BYTES = ArtifactAdded("full.bin", 3, "bb" * 32)


def added(model: str, *versions: str) -> list[tuple[ReleaseKey, Event]]:
    return [(ReleaseKey(model, version), ReleaseAdded(model, version)) for version in versions]


def state(*happened: tuple[ReleaseKey, Event]) -> Releases:
    releases: Releases = {}
    for position, (key, event) in enumerate(happened):
        recorded = Recorded(position, 1000 + position, release.stream(key), "e", "system", event)
        releases = release.evolve(releases, recorded)
    return releases


def refusal(decide: Callable[..., object], *args: object) -> tuple[str, int]:
    with pytest.raises(Refused) as refused:
        decide(*args)
    return refused.value.code, refused.value.status


def latest(releases: Releases) -> dict[str, str]:
    return {model: found.version for model, found in release.latest(releases.values()).items()}


@pytest.mark.parametrize("key", [M1, ReleaseKey("a.b-c_d", "1.0.0-rc.1+build.7")])
def test_a_stream_names_its_release(key: ReleaseKey) -> None:
    assert release.key_of(release.stream(key)) == key
    assert release.key_of(f"device/{key.model}") is None


def test_a_release_is_what_its_events_say() -> None:
    happened = [*added("m", "1.0.0"), (M1, ArtifactAdded("z", 1, "cc" * 32)), (M1, FULL)]
    [found] = state(*happened, (M1, ReleaseWithdrawn("dd" * 32))).values()
    assert (found.position, found.added_at_ms, found.has_notes) == (0, 1000, False)
    assert (found.withdrawn_position, found.withdrawn_at_ms) == (3, 1003)
    assert found.artifacts == (
        ReleaseArtifact("full.bin", 3, "aa" * 32),
        ReleaseArtifact("z", 1, "cc" * 32),
    )


def test_events_of_other_streams_change_no_release() -> None:
    before = state(*added("m", "1.0.0"))
    event = Recorded(7, 1, "device/release", "e", "system", DeviceRegistered())
    assert release.evolve(before, event) is before


def test_a_version_is_added_once_to_its_model() -> None:
    releases = state(*added("m", "1.0.0"))
    wanted = ReleaseAdded("m", "1.0.0")
    assert refusal(release.decide_addition, releases, wanted) == ("release_exists", 409)
    for other in (ReleaseAdded("n", "1.0.0"), ReleaseAdded("m", "1.0.0+b")):
        assert release.decide_addition(releases, other) == other


def test_a_withdrawn_version_is_not_added_again() -> None:
    releases = state(*added("m", "1.0.0"), (M1, ReleaseWithdrawn()))
    wanted = ReleaseAdded("m", "1.0.0")
    assert refusal(release.decide_addition, releases, wanted) == ("release_exists", 409)


def test_an_artifact_never_changes() -> None:
    releases = state(*added("m", "1.0.0"), (M1, FULL))
    assert release.decide_artifact(releases, M1, FULL) is None
    refused = refusal(release.decide_artifact, releases, M1, OTHER_BYTES)
    assert refused == ("artifact_exists", 409)


def test_a_withdrawn_release_takes_no_more_artifacts() -> None:
    releases = state(*added("m", "1.0.0"), (M1, FULL), (M1, ReleaseWithdrawn()))
    assert release.decide_artifact(releases, M1, FULL) is None
    more = ArtifactAdded("delta.bin", 3, "bb" * 32)
    assert refusal(release.decide_artifact, releases, M1, more) == ("release_withdrawn", 409)


def test_the_number_of_artifacts_of_a_release_is_bounded() -> None:
    files: list[tuple[ReleaseKey, Event]] = [
        (M1, ArtifactAdded(f"f{n}", 1, "aa" * 32)) for n in range(ARTIFACTS_MAX)
    ]
    releases = state(*added("m", "1.0.0"), *files)
    assert refusal(release.decide_artifact, releases, M1, FULL) == ("too_many_artifacts", 409)


def test_a_release_is_withdrawn_once() -> None:
    releases = state(*added("m", "1.0.0"))
    assert release.decide_withdrawal(releases, M1) == ReleaseWithdrawn()
    withdrawn = state(*added("m", "1.0.0"), (M1, ReleaseWithdrawn()))
    refused = refusal(release.decide_withdrawal, withdrawn, M1)
    assert refused == ("release_withdrawn", 409)


def test_an_unreleased_version_is_not_found() -> None:
    assert refusal(release.decide_withdrawal, {}, M1) == ("unknown_release", 404)
    assert refusal(release.decide_artifact, {}, M1, FULL) == ("unknown_release", 404)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (("1.0.0",), "1.0.0"),
        (("1.9.0", "1.10.0", "1.2.0"), "1.10.0"),
        (("1.0.0", "2.0.0-rc.1"), "1.0.0"),
        (("1.0.0+a", "1.0.0+b"), "1.0.0+b"),
        (("1.0.0+b", "1.0.0+a"), "1.0.0+a"),
        (("1.0.0-rc.1",), None),
    ],
)
def test_the_latest_is_the_highest_that_is_no_pre_release(
    versions: tuple[str, ...], expected: str | None
) -> None:
    assert latest(state(*added("m", *versions))).get("m") == expected


def test_a_withdrawn_release_gives_way_to_the_one_below() -> None:
    happened = added("m", "1.0.0", "1.1.0")
    assert latest(state(*happened, (ReleaseKey("m", "1.1.0"), ReleaseWithdrawn()))) == {
        "m": "1.0.0"
    }


def test_each_model_has_its_own_latest() -> None:
    releases = state(*added("m", "1.0.0"), *added("n", "3.0.0", "2.0.0"))
    assert latest(releases) == {"m": "1.0.0", "n": "3.0.0"}


VERSIONS = [
    f"{core}{rest}" for core in ("0.9.0", "0.10.0", "1.0.0") for rest in ("", "-rc.1", "+b")
]
RELEASES = st.builds(
    ReleaseState,
    model=st.sampled_from(["m", "m", "n"]),
    version=st.sampled_from(VERSIONS),
    position=st.integers(0, 99),
    added_at_ms=st.integers(0, 99),
    withdrawn_position=st.sampled_from([None, None, None, 100]),
)


@given(st.lists(RELEASES, max_size=20), st.sampled_from(VERSIONS))
def test_a_device_is_outdated_since_the_first_higher_release_that_counts(
    releases: list[ReleaseState], running: str
) -> None:
    """Compares with a search through one release after the other."""
    since_ms = [
        each.added_at_ms
        for each in releases
        if each.model == "m"
        and not each.is_withdrawn
        and "-" not in each.version
        and is_higher(each.version, running)
    ]
    current = release.current(releases)
    assert release.outdated_since_ms(current, "m", running) == min(since_ms, default=None)
    assert release.outdated_since_ms(current, "m", None) is None
    assert release.outdated_since_ms(current, None, running) is None
