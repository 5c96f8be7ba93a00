"""Tests that an event has one text, and that new code reads old texts."""

import re
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from firmtrail.events import times
from firmtrail.events.access import (
    MemberAdded,
    MemberChanged,
    MemberRemoved,
    TokenIssued,
    TokenRevoked,
    UserErased,
)
from firmtrail.events.entry import TYPES, decode, encode, types_named
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    ArtifactAdded,
    DeviceAccepted,
    DeviceChanged,
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceKeyOffered,
    DeviceKeyRejected,
    DeviceRegistered,
    DeviceRestored,
    DeviceSecretIssued,
    DeviceSecretRevoked,
    FirmwareInstalled,
    FirmwareRunning,
    ReleaseAdded,
    ReleaseWithdrawn,
    SettingsChanged,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.log import (
    AccessRecordSealed,
    AccessRecordTrimmed,
    LogContinued,
    ProjectArrived,
    ProjectMoveStarted,
    ProjectMoveUndone,
    TextErased,
)
from firmtrail.events.steering import (
    Asked,
    AttemptsCleared,
    AutoRollout,
    DeviceFellSilent,
    Halted,
    OfferEnded,
    PlanPhase,
    Resumed,
    RollbackStarted,
    RolloutAborted,
    RolloutAdvanced,
    RolloutApproved,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutPlanChanged,
    RolloutRejected,
    RolloutResumed,
    RolloutStarted,
    UpdateOffered,
    Window,
)
from firmtrail.events.times import time_text
from firmtrail.events.webhooks import WebhookAdded, WebhookChanged, WebhookRemoved

AT_MS = times.time_ms("2026-03-14T12:00:00.042Z")

EVERY_KIND: tuple[Event, ...] = (
    FirmwareInstalled("1.4.0", 7, "2026-03-14T11:59:00.000Z", "q1", "r1", "ab" * 32, "SemVer1.4"),
    FirmwareInstalled("1.4.0"),
    FirmwareRunning("1.4.0", seq=0),
    UpdateProgressed("1.4.0", status="downloading"),
    UpdateFailed("1.4.0", status="rejected", rollout="r1"),
    DeviceRegistered("m", "canary", ("a", "b"), "k_1"),
    DeviceRegistered(),
    DeviceChanged(model=None, tags=(), pinned="1.0.0"),
    DeviceChanged(cohort="beta"),
    DeviceSecretIssued("k_2", "2026-03-15T12:00:00.000Z"),
    DeviceSecretRevoked(),
    DeviceDecommissioned(),
    DeviceRestored(),
    DeviceRegistered("m", pending=True),
    DeviceAccepted(),
    DeviceKeyOffered("ab" * 32),
    DeviceKeyAccepted("ab" * 32, "k_3"),
    DeviceKeyRejected("ab" * 32),
    TokenIssued("t_2", "u_1", "gateway", registers=True, model="m", registers_max=10),
    SettingsChanged(enrolment="approve"),
    MemberAdded("u_1", "viewer"),
    MemberChanged("u_1", "admin"),
    MemberRemoved("u_1"),
    TokenIssued("t_1", "u_1", "operator", "2027-01-01T00:00:00.000Z"),
    TokenRevoked("t_1"),
    SettingsChanged(follow_latest=False, max_attempts=5),
    ReleaseAdded("m", "1.4.0+b.7", "ab" * 32),
    ReleaseAdded("m", "1.4.0"),
    ArtifactAdded("full.bin", 4711, "cd" * 32),
    ReleaseWithdrawn("ef" * 32),
    RolloutStarted("1.4.0", "m", 1_000, cohort="beta", failed_percent=5, min_reports=100),
    RollbackStarted("1.4.0", "m", 10_000, fallback="1.2.0", tag="t", reason="ab" * 32),
    RolloutAdvanced(5_000, "b" * 64),
    RolloutPaused(failed=8, installed=92),
    RolloutResumed("ab" * 32),
    RolloutAborted("ab" * 32),
    RolloutStarted(
        "1.4.0",
        "m",
        100,
        plan=(PlanPhase(100, 60, 95, 20), PlanPhase(10_000)),
        start_at="2026-03-15T00:00:00.000Z",
        window=Window("0 2 * * *", 3600, "device"),
        approvals=2,
        started_by="u_1",
        release_position=3,
    ),
    RolloutAdvanced(10_000, phase=1),
    RolloutPhaseMet(0, 19, 1),
    RolloutPlanChanged((PlanPhase(100, 60, 95, 20),), 2, "u_1", "ab" * 32),
    RolloutApproved("ab" * 32, by="u_2"),
    RolloutRejected("ab" * 32, by="u_2"),
    SettingsChanged(
        window=None,
        model_windows={"m": Window("0 2 * * *", 3600, "UTC")},
        approvals=1,
        auto_rollout={"m": AutoRollout((PlanPhase(100),), None, 2, 50)},
    ),
    Halted("ab" * 32, all=True),
    Resumed(),
    UpdateOffered("1.4.0", "rollout", 1, "r_1", "1.3.0"),
    RolloutStarted("1.4.0", "m", 1_000, silent_after_s=3_600),
    AttemptsCleared("1.4.0"),
    OfferEnded("1.4.0", 2, "cancelled", "r_1"),
    OfferEnded("1.4.0", 3, "confirmed"),
    DeviceFellSilent("1.4.0", "r_1", "2026-03-15T12:00:00.000Z"),
    Asked("q_1", "2026-03-15T12:00:00.000Z"),
    AccessRecordSealed(12, "ab" * 32),
    AccessRecordTrimmed(12),
    TextErased(41),
    TextErased(41, log=1),
    UserErased("u_1"),
    LogContinued(1, 8142, "firmtrail/acme/1\n8143\n\n\u2014 firmtrail/acme/1 x\n"),
    LogContinued(1, 0),
    ProjectMoveStarted("eu", "https://eu.example"),
    ProjectMoveUndone("eu"),
    ProjectArrived(1, "firmtrail/acme/1+00000000+x", {"u_1": "u_2"}),
    WebhookAdded("https://hooks.example.org", ("FirmwareInstalled",), ("m",), ("halted",)),
    WebhookChanged(types=None, enabled=False, disabled_for="gone"),
    WebhookChanged(rekeyed=True),
    WebhookRemoved(),
)


def recorded(event: Event, event_id: str = "s.0198") -> Recorded:
    return Recorded(8142, AT_MS, "device/pump-7", event_id, "device/pump-7", event)


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(event) for event in EVERY_KIND} >= set(TYPES.values())


@pytest.mark.parametrize("event", EVERY_KIND, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_text(event: Event) -> None:
    text = encode("acme", recorded(event))
    assert decode(8142, text) == recorded(event)


@pytest.mark.parametrize("kind", TYPES.values())
def test_the_member_that_a_text_is_hashed_into_is_one_of_the_event(kind: type[Event]) -> None:
    assert kind.TEXT is None or kind.TEXT in kind.__struct_fields__


@pytest.mark.parametrize("event", EVERY_KIND, ids=lambda event: type(event).__name__)
def test_a_text_is_one_compact_line(event: Event) -> None:
    text = encode("acme", recorded(event))
    assert "\n" not in text
    assert msgspec.json.encode(msgspec.json.decode(text)).decode() == text


def test_a_report_reads_as_the_interface_says() -> None:
    event = FirmwareInstalled("1.4.0", seq=4711, occurred_at="2026-03-14T11:59:00.000Z")
    assert encode("acme", recorded(event, "r.b7c9")) == (
        '{"specversion":"1.0","id":"r.b7c9","source":"/projects/acme/device/pump-7",'
        '"type":"firmtrail.FirmwareInstalled.v1","subject":"device/pump-7",'
        '"time":"2026-03-14T12:00:00.042Z","actor":"device/pump-7",'
        '"data":{"version":"1.4.0","seq":4711,"occurred_at":"2026-03-14T11:59:00.000Z"}}'
    )


def test_a_status_of_several_stands_in_the_text() -> None:
    event = UpdateFailed("1.4.0", status="rejected")
    text = encode("acme", recorded(event))
    assert text.endswith('"data":{"version":"1.4.0","status":"rejected"}}')


def test_a_member_set_to_nothing_differs_from_one_not_set() -> None:
    removed = encode("acme", recorded(DeviceChanged(model=None)))
    assert removed.endswith('"data":{"model":null}}')


def test_the_text_does_not_contain_the_position() -> None:
    moved = replace(recorded(DeviceRestored()), position=9000)
    assert encode("acme", moved) == encode("acme", recorded(DeviceRestored()))


def test_no_event_has_a_member_for_a_secret_an_address_or_free_text() -> None:
    forbidden = re.compile("secret$|password|token$|hash|digest|mail|text|reason|notes")
    members = {
        name
        for kind in TYPES.values()
        for name in kind.__struct_fields__
        if name != kind.TEXT  # it holds a hash of the text
    }
    assert not {name for name in members if forbidden.search(name)}


class Renamed(Event, frozen=True):
    """Declares an event type of these tests at its third version."""

    VERSION = 3
    firmware: str
    channel: str


def _named(data: dict[str, Any]) -> dict[str, Any]:
    return {"firmware": data["fw"]}


def _channelled(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "channel": "stable"}


UPCASTS = {("Renamed", 1): _named, ("Renamed", 2): _channelled}


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, '{"fw":"1.0.0"}'),
        (2, '{"firmware":"1.0.0"}'),
        (3, '{"firmware":"1.0.0","channel":"stable"}'),
    ],
)
def test_an_old_version_is_lifted_step_by_step(version: int, data: str) -> None:
    text = (
        '{"specversion":"1.0","id":"s.1","source":"/projects/acme/device/d","type":'
        f'"firmtrail.Renamed.v{version}","subject":"device/d","time":"2026-03-14T12:00:00.042Z",'
        f'"actor":"system","data":{data}}}'
    )
    read = decode(0, text, {"Renamed": Renamed}, UPCASTS)
    assert read == Recorded(0, AT_MS, "device/d", "s.1", "system", Renamed("1.0.0", "stable"))


def test_an_erased_text_of_the_first_version_was_of_the_same_log() -> None:
    text = encode("acme", recorded(TextErased(41)))
    assert '"firmtrail.TextErased.v2"' in text
    first = text.replace(".v2", ".v1")
    assert decode(8142, first) == recorded(TextErased(41))


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("TextErased", {"firmtrail.TextErased.v1", "firmtrail.TextErased.v2"}),
        ("TextErased.v1", {"firmtrail.TextErased.v1"}),
        ("firmtrail.TextErased.v2", {"firmtrail.TextErased.v2"}),
        ("firmtrail.DeviceRestored", {"firmtrail.DeviceRestored.v1"}),
        ("TextErased.v3", set()),
        ("Text", set()),
        ("v1", set()),
        ("", set()),
    ],
)
def test_a_name_means_the_types_of_its_versions(name: str, types: set[str]) -> None:
    assert types_named(name) == types


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("no JSON", "hello"),
        ("no envelope", "{}"),
        ("a foreign type", '"hello"'),
        ("an unknown event", encode("acme", recorded(Renamed("1.0.0", "stable")))),
        ("a newer version", '"firmtrail.DeviceRestored.v2"'),
        ("a broken member", '"data":{"position":"x"}'),
    ],
)
def test_a_text_that_is_no_entry_is_refused(what: str, text: str) -> None:
    if text.startswith(('"firmtrail', '"hello')):
        entry = encode("acme", recorded(DeviceRestored()))
        text = entry.replace('"firmtrail.DeviceRestored.v1"', text)
    elif text.startswith('"data'):
        entry = encode("acme", recorded(TextErased(41)))
        text = entry.replace('"data":{"position":41}', text)
    with pytest.raises((msgspec.MsgspecError, ValueError, KeyError)):
        decode(0, text)


@pytest.mark.parametrize(
    ("text", "time_ms", "canonical"),
    [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000Z"),
        ("2026-03-14T13:00:00.042999+01:00", AT_MS, "2026-03-14T12:00:00.042Z"),
        ("1969-12-31T23:59:58.5Z", -1_500, "1969-12-31T23:59:58.500Z"),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_has_one_text(text: str, time_ms: int, canonical: str) -> None:
    assert times.time_ms(text) == time_ms
    assert time_text(time_ms) == canonical
    assert times.time_ms(canonical) == time_ms
