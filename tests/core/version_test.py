"""Tests versions: SemVer 2.0.0's grammar and precedence, and the looser texts of old devices."""

from itertools import pairwise

import pytest

from firmtrail.rules import version

VALID = (
    "0.0.0",
    "1.2.3",
    "10.20.30",
    "1.1.2-prerelease+meta",
    "1.0.0-alpha.beta.1",
    "1.0.0-0A.is.legal",
    "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
    "1.2.3----RC-SNAPSHOT.12.9.1--.12",
    "1.0.0-" + "a" * 58,
)
INVALID = (
    "",
    "1",
    "1.4",
    "SemVer1.4",
    "v1.4.0",
    "01.1.1",
    "1.1.01",
    "1.0.0-",
    "1.0.0-01",
    "1.0.0-a..b",
    "1.0.0+",
    "1.0.0+a+b",
    "1.0.0-ä",
    "\u0661.0.0",  # a digit, but not of ASCII
    " 1.0.0",
    "1.0.0\n",
    "1.0.0-" + "a" * 59,
)
BY_PRECEDENCE = (  # SemVer 2.0.0, section 11
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
)


@pytest.mark.parametrize("text", VALID)
def test_semver_is_valid(text: str) -> None:
    assert version.is_valid(text)


@pytest.mark.parametrize("text", INVALID)
def test_a_text_that_is_not_semver_or_too_long_is_invalid(text: str) -> None:
    assert not version.is_valid(text)


def test_versions_order_as_semver_says() -> None:
    for lower, higher in pairwise(BY_PRECEDENCE):
        assert version.precedence(lower) < version.precedence(higher), (lower, higher)


def test_build_metadata_does_not_count_in_precedence() -> None:
    assert version.precedence("1.0.0+a").compare(version.precedence("1.0.0+b")) == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("SemVer1.1", "1.1.0"),
        ("SemVer1.1.2", "1.1.2"),
        ("1.1", "1.1.0"),
        ("1.1.0", "1.1.0"),
        ("1.1.0-rc.1+b", "1.1.0-rc.1+b"),
        ("SemVer11", None),
        ("SemVer", None),
        ("1.01", None),
        ("1.1\n", None),
        ("SemVerSemVer1.1", None),
        ("semver1.1", None),
        ("1.1.0.0", None),
    ],
)
def test_the_looser_texts_of_old_devices_mean_a_version(text: str, meant: str | None) -> None:
    assert version.from_loose(text) == meant
