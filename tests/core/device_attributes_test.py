"""What a device is: registered, changed, decommissioned, restored, given new hardware."""

from typing import Any

import pytest
from msgspec.structs import replace

from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    DeviceChanged,
    DeviceDecommissioned,
    DeviceRegistered,
    DeviceRestored,
    DeviceSecretIssued,
    DeviceSecretRevoked,
)
from firmtrail.rules.device import (
    LAST_PLACE,
    DeviceState,
    Refused,
    active_device,
    decide_change,
    decide_registration,
    evolve_attributes,
    evolve_ordered,
    existing_device,
)

STATE = DeviceState("d1", "m", "beta", ("a", "b"))
GONE = replace(STATE, decommissioned=True)


def test_a_registration_has_every_attribute() -> None:
    event = DeviceRegistered("m", "beta", ("a", "b"))
    assert evolve_attributes(None, "d1", event, 7) == replace(STATE, registered_at_ms=7)


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (DeviceChanged(model="n"), {"model": "n"}),
        (DeviceChanged(cohort=None, tags=()), {"cohort": None, "tags": ()}),
        (DeviceChanged(pinned="1.0.0"), {"pinned": "1.0.0"}),
        (DeviceDecommissioned(), {"decommissioned": True}),
        (DeviceSecretIssued("k1"), {}),
        (DeviceSecretRevoked(), {}),
    ],
)
def test_an_event_changes_what_it_names(event: Event, changed: dict[str, Any]) -> None:
    assert evolve_attributes(STATE, "d1", event) == replace(STATE, **changed)


def test_a_restored_device_is_as_it_was() -> None:
    assert evolve_attributes(GONE, "d1", DeviceRestored()) == STATE


@pytest.mark.parametrize(("last", "begins"), [(-1, 0), (41, 42), (LAST_PLACE, LAST_PLACE)])
def test_new_hardware_counts_from_after_the_last_place(last: int, begins: int) -> None:
    event = DeviceSecretIssued("k2", new_counting=True)
    state = evolve_attributes(replace(STATE, last_place=last), "d1", event)
    assert state.counting_place == begins


def test_an_offer_makes_the_same_bare_report_news() -> None:
    state = replace(STATE, last_version="1.0.0")
    assert evolve_ordered(state, "1.0.0").is_ordered
    assert not evolve_ordered(state, "1.1.0").is_ordered


def test_a_device_is_registered_once() -> None:
    wanted = DeviceRegistered("m")
    assert decide_registration(None, wanted, "d1") is wanted
    for state, code in ((STATE, "device_exists"), (GONE, "device_decommissioned")):
        with pytest.raises(Refused) as refused:
            decide_registration(state, wanted, "d1")
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("state", "change", "decommissioned", "events"),
    [
        (STATE, DeviceChanged(), None, []),
        (STATE, DeviceChanged(model="m", tags=("a", "b")), None, []),
        (STATE, DeviceChanged(model="n", cohort="beta"), None, [DeviceChanged(model="n")]),
        (STATE, DeviceChanged(), True, [DeviceDecommissioned()]),
        (STATE, DeviceChanged(model="n"), True, [DeviceChanged(model="n"), DeviceDecommissioned()]),
        (STATE, DeviceChanged(), False, []),
        (GONE, DeviceChanged(), True, []),
        (GONE, DeviceChanged(), False, [DeviceRestored()]),
        (GONE, DeviceChanged(model="n"), False, [DeviceRestored(), DeviceChanged(model="n")]),
        (GONE, DeviceChanged(model="m"), None, []),
    ],
)
def test_a_change_records_only_what_becomes_different(
    state: DeviceState, change: DeviceChanged, decommissioned: bool | None, events: list[Event]
) -> None:
    given = () if decommissioned is None else (decommissioned,)
    assert decide_change(state, change, *given) == events


@pytest.mark.parametrize("given", [(), (True,)])
def test_a_decommissioned_device_is_changed_only_with_its_restoration(given: tuple[bool]) -> None:
    with pytest.raises(Refused, match="decommissioned"):
        decide_change(GONE, DeviceChanged(model="n"), *given)


def test_only_a_registered_device_is_found_and_only_an_active_one_called() -> None:
    states = {"d1": STATE, "d2": GONE}
    assert existing_device(states, "d2") is GONE
    assert active_device(states, "d1") is STATE
    for name, code in (("d2", "device_decommissioned"), ("d3", "unknown_device")):
        with pytest.raises(Refused) as refused:
            active_device(states, name)
        assert refused.value.code == code
