"""Tests that every fault of a body or a query is named, with its place."""

import asyncio
from typing import Any

import msgspec
import pytest
from multidict import MultiDict

from firmtrail.http.api.device_changes import DEVICES_MAX, Rotation
from firmtrail.http.api.devices import DevicesQuery, Registration
from firmtrail.http.api.releases import NewRelease
from firmtrail.http.api.reports import Report
from firmtrail.http.api.rollout_starts import WantedRollback
from firmtrail.http.errors import FAULTS_MAX, BadRequest, Invalid, TooLarge
from firmtrail.http.parameters import query_reader
from firmtrail.http.validate import (
    BodyReader,
    FaultyItem,
    body_reader,
    is_optional,
    skipping_reader,
    takes_arrays,
)

REPORTS = Report | list[Report]


def read(reader: BodyReader, body: bytes) -> Any:
    async def reading() -> Any:
        return await reader(body)

    return asyncio.run(reading())


def read_reports(body: bytes) -> Any:
    return read(body_reader(REPORTS), body)


def faults(body: bytes, kind: object = REPORTS) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        read(body_reader(kind), body)
    return {str(fault.pointer): fault.reason for fault in raised.value.faults}


def test_a_valid_body_is_the_struct() -> None:
    assert read_reports(b'{"version": "1.4.0"}') == Report(version="1.4.0")
    assert read_reports(b'[{"version": "1.4.0"}]') == [Report(version="1.4.0")]


def test_newer_firmware_may_send_members_that_are_unknown_here() -> None:
    assert read_reports(b'{"version": "1.4.0", "battery": 1e400}').version == "1.4.0"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"version": 1',
        b'{"version": "1.0.0"} x',
        b"{'version': '1.0.0'}",
        b'{"version": "1.0.0", "detail": "\xff"}',
        b'{"version": "1.0.0", "unknown": "\xff"}',
        b'{"version": "1.0.0", "detail": "a\x00b"}',
        b'{"version": "1.0.0", "seq": NaN}',
        b"[" * 200_000,
        b'{"version": "1.0.0", "unknown": ' + b"[" * 200_000,
    ],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_reports(body)


@pytest.mark.parametrize(
    "text", ["a\\u0000b", "\\ud800", "a\\uDC00", "\\uD83D\\ud83d\\ude00", "\\\\\\udead"]
)
def test_text_that_cannot_be_stored_is_the_fault_of_its_member(text: str) -> None:
    body = f'{{"version": "1.0.0", "detail": "{text}"}}'.encode()
    assert list(faults(body)) == ["/detail"]
    assert list(faults(b"[" + body + b', {"version": "1.0.0"}]')) == ["/0/detail"]
    first, second = read(skipping_reader(REPORTS), b"[" + body + b', {"version": "1.0.0"}]')
    assert isinstance(first, FaultyItem)
    assert second == Report(version="1.0.0")
    named = f'{{"device": "d1", "tags": ["{text}"], "{text}": 1}}'.encode()
    assert "/tags/0" in faults(named, Registration)
    assert len(faults(named, Registration)) == 2


def test_text_that_cannot_be_stored_is_ignored_in_unknown_members() -> None:
    for member in ('"a\\u0000b": 1', '"x": "\\ud800"', '"\\ud800": "\\u0000"'):
        body = f'{{"version": "1.0.0", {member}}}'.encode()
        assert read_reports(body) == Report(version="1.0.0")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    for text in ("\\ud83d\\ude00", "\\uD83D\\uDE00\\\\ud83d"):
        body = f'{{"version": "1.0.0", "detail": "{text}"}}'.encode()
        assert read_reports(body).detail == msgspec.json.decode(f'"{text}"')


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert read_reports(b'{"version": "1.0.0", "detail": "\\\\u0000"}').detail == "\\u0000"


@pytest.mark.parametrize(
    "version",
    [
        "1.4",
        "SemVer1.4",
        "1.4.0\\n",
        "01.4.0",
        "1.4.0-",
        "1.4.0 ",
        "",
        "1.0.0-" + "a" * 59,
        "\uff11.4.0",
    ],
)
def test_a_version_is_strict_semver(version: str) -> None:
    assert list(faults(f'{{"version": "{version}"}}'.encode())) == ["/version"]


@pytest.mark.parametrize("seq", ["-1", "9007199254740992", "1.5", '"1"', "1e400", "true"])
def test_a_seq_is_an_integer_that_javascript_can_hold(seq: str) -> None:
    assert list(faults(f'{{"version": "1.0.0", "seq": {seq}}}'.encode())) == ["/seq"]


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert read_reports(b'{"version": "1.0.0", "seq": 4711.0}').seq == 4711
    assert read_reports(b'[{"version": "1.0.0", "seq": 1e3}]')[0].seq == 1000


@pytest.mark.parametrize(
    "occurred_at", ["2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-01-01", "yesterday", ""]
)
def test_a_time_has_its_offset(occurred_at: str) -> None:
    body = msgspec.json.encode({"version": "1.0.0", "occurred_at": occurred_at})
    assert list(faults(body)) == ["/occurred_at"]


def test_a_time_that_leaves_the_calendar_in_utc_is_a_fault() -> None:
    for outside in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"):
        body = msgspec.json.encode({"version": "1.0.0", "occurred_at": outside})
        assert list(faults(body)) == ["/occurred_at"]
    assert read_reports(b'{"version": "1.0.0", "occurred_at": "0001-01-01T00:00:00Z"}')


def test_every_fault_is_named_in_one_answer() -> None:
    body = b"""[
        {"version": "1.0.0"},
        {"status": "exploded", "seq": -1},
        7,
        {"version": 3, "report_id": "a b"}
    ]"""
    assert set(faults(body)) == {
        "/1/version",
        "/1/status",
        "/1/seq",
        "/2",
        "/3/version",
        "/3/report_id",
    }


def test_an_unknown_member_in_a_body_of_a_user_is_a_fault() -> None:
    body = b'{"device": "d1", "modle": "x", "a/b~c": 1, "tags": ["ok", "not ok"]}'
    assert set(faults(body, Registration)) == {"/modle", "/a~1b~0c", "/tags/1"}


def test_a_rule_that_types_cannot_express_is_named_with_the_other_faults() -> None:
    body = msgspec.json.encode(
        {"bad_version": "1", "cohort": "a", "tag": "b", "reason": "\u20ac" * 4096, "resaon": ""}
    )
    assert set(faults(body, WantedRollback)) == {
        "/bad_version",
        "/model",
        "/tag",
        "/reason",
        "/resaon",
    }
    assert set(faults(b'[{"occurred_at": "0001-01-01T00:00:00+01:00", "seq": -1}]')) == {
        "/0/version",
        "/0/seq",
        "/0/occurred_at",
    }


def test_a_rollback_needs_a_reason_unless_it_is_a_dry_run() -> None:
    back = {"bad_version": "1.0.0", "model": "m"}
    for reason in ({}, {"reason": None}, {"reason": ""}, {"reason": 3}):
        body = msgspec.json.encode(back | reason)
        assert list(faults(body, WantedRollback)) == ["/reason"]
    tried = msgspec.json.encode(back | {"dry_run": True})
    assert read(body_reader(WantedRollback), tried).reason is None


def test_a_body_of_valid_members_can_break_a_rule() -> None:
    notes = msgspec.json.encode({"version": "1.0.0", "model": "m", "notes": "\u20ac" * 4096})
    assert list(faults(notes, NewRelease)) == ["/notes"]


def test_the_list_of_faults_ends_at_a_hundred() -> None:
    assert len(faults(b"[" + b"{}," * 500 + b"{}]")) == FAULTS_MAX
    body = b"[" + b'{"seq": -1, "status": 1},' * 500 + b"{}]"
    skipped = read(skipping_reader(REPORTS), body)
    assert [len(item.faults) for item in skipped] == [3] * 33 + [1] * 468


@pytest.mark.parametrize("item", [b"{}", b'{"version":"1.0.0","x":{"y":[1,2]}}', b"1", b"[]"])
def test_items_are_counted_before_any_is_decoded(item: bytes) -> None:
    for reader in (body_reader(REPORTS), skipping_reader(REPORTS)):
        with pytest.raises(TooLarge):
            read(reader, b"[" + b",".join([item] * 1_001) + b"]")
    devices = Registration | list[Registration]
    with pytest.raises(TooLarge):
        read(body_reader(devices, DEVICES_MAX), b"[" + b"{}," * 10_000 + b"{}]")
    most = b"[" + b",".join([b'{"version":"1.0.0","detail":"a, b"}'] * 1_000) + b"]"
    assert len(read_reports(most)) == 1_000
    assert read_reports(b" [ ] ") == []


def test_an_item_that_would_take_long_to_decode_is_too_large() -> None:
    devices = Registration | list[Registration]
    tags = b",".join([b'"a"'] * 20_000)
    with pytest.raises(TooLarge):
        read(body_reader(devices), b'[{"device":"d1","tags":[' + tags + b"]}]")
    unknown = b",".join([b'"a":1'] * 20_000)
    assert len(read_reports(b'[{"version":"1.0.0",' + unknown + b"}]")) == 1
    assert list(faults(b'[{"version":"1",' + unknown + b"}]")) == ["/0/version"]


def test_the_number_of_members_is_one_fault() -> None:
    body = msgspec.json.encode({"device": "d1", "tags": ["a b"] * 33})
    assert list(faults(body, Registration)) == ["/tags"]


def test_a_reason_quotes_little_of_what_it_is_about() -> None:
    body = msgspec.json.encode({"version": "1.0.0", "status": "x" * 50_000})
    assert len(faults(body)["/status"]) < 250


def test_a_fault_says_what_is_expected_in_words() -> None:
    assert "SemVer 2.0.0" in faults(b'{"version": "1.4"}')["/version"]


def test_a_skipping_reader_returns_a_faulty_item_in_its_place() -> None:
    reader = skipping_reader(REPORTS)
    first, second = read(reader, b'[{"version": "1.0.0"}, {"version": "1"}]')
    assert isinstance(first, Report)
    assert isinstance(second, FaultyItem)
    with pytest.raises(Invalid):
        read(reader, b'{"version": "1"}')
    with pytest.raises(BadRequest):
        read(reader, b'[{"version": "1.0.0"}, {"version": ]')


def test_a_query_is_read_by_its_types() -> None:
    read_query = query_reader(DevicesQuery)
    query = read_query(MultiDict(version="1.0.0 build", limit="7", failing="true", silent_for="60"))
    assert query == DevicesQuery(version="1.0.0+build", limit=7, failing=True, silent_for=60)
    assert read_query(MultiDict()) == DevicesQuery()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "x"),
        ("limit", "null"),
        ("failing", "maybe"),
        ("version", "1.0"),
        ("at", "5"),
        ("at", "2026-01-01T00:00:00"),
        ("as_of", "@-1"),
        ("as_of", "8142"),
        ("q", "a\0"),
        ("page", "2"),
    ],
)
def test_a_faulty_parameter_is_named(name: str, text: str) -> None:
    with pytest.raises(Invalid) as raised:
        query_reader(DevicesQuery)(MultiDict({name: text}))
    assert [fault.parameter for fault in raised.value.faults] == [name]


def test_all_faulty_parameters_are_named() -> None:
    query = MultiDict([("limit", "0"), ("x", "1"), ("q", "a"), ("q", "b")])
    with pytest.raises(Invalid) as raised:
        query_reader(DevicesQuery)(query)
    assert [fault.parameter for fault in raised.value.faults] == ["limit", "x", "q"]


def test_missing_parameters_are_named_in_their_order() -> None:
    """Not in the order of a set, which differs from process to process."""
    parameters = ("to", "from", "at", "since", "until", "stream", "size", "limit")
    kind = msgspec.defstruct("Query", [(name, int) for name in parameters])
    with pytest.raises(Invalid) as raised:
        query_reader(kind)(MultiDict())
    assert tuple(fault.parameter for fault in raised.value.faults) == parameters


def test_the_type_of_a_body_shows_whether_arrays_and_no_body_are_taken() -> None:
    assert takes_arrays(REPORTS)
    assert not takes_arrays(Rotation)
    assert is_optional(Rotation)
    assert not is_optional(Registration)
