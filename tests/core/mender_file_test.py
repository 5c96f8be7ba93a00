"""Tests what is read from the header of a Mender artifact, that hostile ones are files only."""

import gzip
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmtrail.rules.mender_file import HEAD_BYTES, MenderFacts, read
from tests.core.mender_files import INFO, artifact, tar

OLD_INFO = {"updates": [], "artifact_name": "release-1", "device_types_compatible": ["pump"]}


def chained(count: int) -> bytes:
    """Returns a file of headers that each say that the next one has a long name."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 0
    return header.tobuf() * count


@pytest.mark.parametrize("coding", ["", ".gz", ".xz"])
def test_the_header_names_the_artifact_and_its_device_types(coding: str) -> None:
    assert read(artifact(coding=coding)) == MenderFacts("release-1", ("beaglebone", "pump"))


def test_a_header_of_the_second_version_is_read_too() -> None:
    assert read(artifact(OLD_INFO)) == MenderFacts("release-1", ("pump",))


def test_a_file_that_is_cut_after_its_header_info_is_read() -> None:
    whole = artifact(coding="")
    assert read(whole[: whole.index(b"release-1") + 600]) == read(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"firmware" * 1000,
        artifact(first="manifest"),
        artifact(coding=".zst"),
        artifact({}),
        artifact([]),
        artifact({"artifact_provides": {"artifact_name": ""}}),
        artifact({"artifact_provides": {"artifact_name": "a\nb"}}),
        artifact({"artifact_provides": {"artifact_name": "a\x00b"}}),
        artifact({"artifact_provides": {"artifact_name": "x" * 257}}),
        artifact({"artifact_provides": {"artifact_name": 7}}),
        tar(("version", b"{}")),
        tar(("version", b"{}"), ("header.tar.gz", b"no gzip")),
        tar(("version", b"{}"), ("header.tar.xz", b"no xz")),
        tar(("version", b"{}"), ("header.tar.gz", gzip.compress(bytes(50_000_000)))),
        chained(500),
        tar(("version", b"{}"), ("header.tar.gz", gzip.compress(chained(900)))),
    ],
    ids=range(17),
)
def test_any_other_file_has_no_such_facts(data: bytes) -> None:
    assert read(data[:HEAD_BYTES]) is None


def test_unfit_device_types_are_left_out() -> None:
    types = ["a", "", "b\x00", "a", *map(str, range(99))]
    info = INFO | {"artifact_depends": {"device_type": types}}
    found = read(artifact(info))
    assert found is not None
    assert found.device_types[:2] == ("a", "0")
    assert len(found.device_types) < 65


@given(st.data())
def test_a_file_with_changed_bytes_never_fails(data: st.DataObject) -> None:
    bytes_ = bytearray(artifact(coding=data.draw(st.sampled_from(["", ".gz"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(bytes_) - 1))
        bytes_[at] = data.draw(st.integers(0, 255))
    read(bytes(bytes_))
