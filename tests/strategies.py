"""Generates random fleets for property tests: reports of devices and acts of operators."""

from itertools import pairwise

from hypothesis import strategies as st

from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    DeviceAccepted,
    DeviceChanged,
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceKeyOffered,
    DeviceKeyRejected,
    DeviceRestored,
    DeviceSecretIssued,
    Status,
)
from firmtrail.events.steering import AttemptsCleared, Cause, UpdateOffered
from firmtrail.events.times import time_ms
from firmtrail.rules.report import EARLIEST_BELIEVED_MS, ReportCommand
from tests.fleet import NOON_MS, Step, report

VERSIONS = ("1.0.0", "1.0.0+b", "1.1.0-rc.1", "1.1.0", "2.0.0")
MODELS = ("m", "n", None)
DEVICES = ("d1", "d2", "d3")
UNSET_MS = EARLIEST_BELIEVED_MS - 1
FAR_AHEAD_MS = time_ms("2999-01-01T00:00:00Z")

versions = st.sampled_from(VERSIONS)
STATUSES: tuple[Status, ...] = (
    "installed",
    "installed",
    "running",
    "running",
    "failed",
    "rebooting",
)
statuses = st.sampled_from(STATUSES)
believed = st.integers(0, 9).map(lambda minutes: NOON_MS + minutes * 60_000)
clocks = st.one_of(st.none(), believed, st.sampled_from((UNSET_MS, FAR_AHEAD_MS)))


@st.composite
def lawful(draw: st.DrawFn, first_ms: int = NOON_MS) -> list[ReportCommand]:
    """Generates reports in a device's order: all with distinct seqs, or none with a seq and all
    with distinct believed times from `first_ms` on; some have a report_id, and none is used
    twice."""
    places = sorted(draw(st.sets(st.integers(0, 20), min_size=1, max_size=8)))
    has_seq = draw(st.booleans())
    return [
        report(
            draw(versions),
            draw(statuses),
            report_id=f"r{place}" if draw(st.booleans()) else None,
            seq=place if has_seq else None,
            occurred_at_ms=draw(clocks) if has_seq else first_ms + place,
        )
        for place in places
    ]


@st.composite
def deliveries(draw: st.DrawFn, reports: list[ReportCommand]) -> list[list[ReportCommand]]:
    """Generates each report at least once, in any order and repetition, in units of any size."""
    again = draw(st.lists(st.sampled_from(reports), max_size=6))
    return units(draw, draw(st.permutations([*reports, *again])))


def units[Item](draw: st.DrawFn, items: list[Item]) -> list[list[Item]]:
    """Cuts the items anywhere."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(items))), max_size=4)))
    bounds = [0, *cuts, len(items)]
    return [items[start:stop] for start, stop in pairwise(bounds)]


def any_reports(device: str) -> st.SearchStrategy[ReportCommand]:
    """Generates reports with every kind of identity, which collide now and then."""
    return st.builds(
        report,
        versions,
        statuses,
        st.just(device),
        report_id=st.one_of(st.none(), st.none(), st.sampled_from(("a", "b"))),
        seq=st.one_of(st.none(), st.none(), st.integers(0, 6)),
        occurred_at_ms=clocks,
    )


changes: st.SearchStrategy[Event] = st.one_of(
    st.builds(DeviceChanged, model=st.sampled_from(MODELS)),
    st.builds(DeviceChanged, cohort=st.sampled_from(("beta", None))),
    st.builds(DeviceChanged, tags=st.sampled_from(((), ("x",), ("x", "y")))),
    st.builds(DeviceChanged, pinned=st.sampled_from((None, *VERSIONS[:2]))),
    st.just(DeviceDecommissioned()),
    st.just(DeviceRestored()),
    st.just(DeviceAccepted()),
    st.builds(DeviceKeyOffered, st.sampled_from(("a" * 64, "b" * 64))),
    st.just(DeviceKeyAccepted("a" * 64, "k_2")),
    st.just(DeviceKeyRejected("a" * 64)),
    st.builds(DeviceSecretIssued, st.just("k_1"), new_counting=st.booleans()),
)


def _offer(version: str, cause: Cause) -> UpdateOffered:
    return UpdateOffered(version, cause, 1, None if cause == "pinned" else f"r_{cause}")


causes: st.SearchStrategy[Cause] = st.sampled_from(("rollback", "pinned", "rollout"))
offers: st.SearchStrategy[Event] = st.builds(_offer, versions, causes)
ordered: st.SearchStrategy[Event] = st.one_of(
    offers,
    offers,
    st.builds(AttemptsCleared, versions),
    st.just(DeviceSecretIssued("k_1", new_counting=True)),
)
"""The events that can be recorded of a device between two of its reports."""


def lives() -> st.SearchStrategy[list[Step]]:
    """Generates the events of registered devices; some report by seq, some by clock, some by
    both."""
    return _lives(changes)


def ordered_lives() -> st.SearchStrategy[list[Step]]:
    """Generates the same, with orders to the devices."""
    return _lives(st.one_of(changes, ordered, ordered, ordered))


@st.composite
def _lives(draw: st.DrawFn, about_devices: st.SearchStrategy[Event]) -> list[Step]:
    reports = st.lists(st.sampled_from(DEVICES).flatmap(any_reports), min_size=1, max_size=6)
    about = st.tuples(st.sampled_from(DEVICES).map(lambda name: f"device/{name}"), about_devices)
    return draw(st.lists(st.one_of(reports, reports, about), min_size=1, max_size=8))
