"""Tests what the attributes of a device may be, and what they mean."""

import pytest
from msgspec.structs import replace

from firmtrail.rules import attributes
from firmtrail.rules.attributes import ATTRIBUTES_MAX
from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.settings import Settings

OLD = {"a": "1", "b": "2"}
PUMP = DeviceState("d1", model="pump")
NAMELESS = DeviceState("d1")


@pytest.mark.parametrize(
    ("mode", "data", "after"),
    [
        ("merge", {"b": "3", "c": ""}, {"a": "1", "b": "3", "c": ""}),
        ("merge", {}, OLD),
        ("replace", {"c": "4"}, {"c": "4"}),
        ("replace", {}, {}),
        ("remove", {"a": "", "z": ""}, {"b": "2"}),
    ],
)
def test_a_change_merges_replaces_or_removes(
    mode: attributes.Mode, data: dict[str, str], after: dict[str, str]
) -> None:
    assert attributes.changed(OLD, mode, data) == after
    assert attributes.changed(attributes.changed(OLD, mode, data), mode, data) == after


def test_another_protocol_adds_nothing_to_a_device_that_has_too_many_attributes() -> None:
    many = {f"k{n}": "" for n in range(ATTRIBUTES_MAX + 1)}
    assert attributes.changed_as_fits(many, "merge", {"k0": "1", "new": ""}) == {**many, "k0": "1"}


def test_more_than_a_hundred_attributes_are_refused_and_a_hundred_are_not() -> None:
    many = {f"k{n}": "" for n in range(ATTRIBUTES_MAX)}
    assert attributes.changed(many, "merge", many) == many
    assert attributes.changed(OLD, "replace", many) == many
    with pytest.raises(Refused) as refused:
        attributes.changed(OLD, "merge", many)
    assert (refused.value.code, refused.value.status) == ("too_many_attributes", 422)


def test_what_another_protocol_sends_is_made_to_fit() -> None:
    sent = {
        "list": ["a", 1],
        "number": 7,
        "long": "x" * 600,
        "": "no key",
        "k" * 129: "long key",
        "n\0": "NUL",
        "nul": "a\0b",
        "half": "a\ud800b",
    }
    assert attributes.fitted(sent) == {
        "list": "a,1",
        "number": "7",
        "long": "x" * 512,
        "nul": "ab",
        "half": "ab",
    }
    many = {f"k{n}": n for n in range(2_000)}
    assert list(attributes.fitted(many)) == list(many)[: attributes.SENT_MAX]


@pytest.mark.parametrize("kept", [0, 99, 100])
def test_attributes_without_room_are_left_out(kept: int) -> None:
    before = {f"k{n}": "old" for n in range(kept)}
    sent = {"k0": "new", "more": "new", "and more": "new"}
    merged = attributes.changed_as_fits(before, "merge", sent)
    assert merged == dict([*(before | sent).items()][:ATTRIBUTES_MAX])
    assert attributes.changed_as_fits(before, "replace", sent) == sent
    assert "k0" not in attributes.changed_as_fits(before, "remove", sent)


def test_a_device_is_found_by_its_pairs_and_not_by_a_part_of_them() -> None:
    found = attributes.pairs({"site": "lyon", "mac:eth0": "aa:bb"})
    assert found == {attributes.pair("site:lyon"), attributes.pair("mac:eth0:aa:bb")}
    assert attributes.pair("site:lyo") not in found


def test_the_usual_attributes_carry_the_version_in_their_order() -> None:
    said = {"version": "1.0.0", "firmtrail.version": "2.0.0", "memfault__current_version": "3.0.0"}
    found = []
    while (text := attributes.version_text(Settings(), said)) is not None:
        found.append(text)
        said = {key: value for key, value in said.items() if value != text}
    assert found == ["3.0.0", "2.0.0", "1.0.0"]


def test_only_the_attribute_that_the_project_names_carries_the_version() -> None:
    named = Settings(version_attribute="fw")
    assert attributes.version_text(named, {"version": "1.0.0"}) is None
    assert attributes.version_text(named, {"version": "1.0.0", "fw": "2.0.0"}) == "2.0.0"


@pytest.mark.parametrize(
    ("state", "named", "said", "model"),
    [
        (NAMELESS, None, {"memfault__hardware_version": "evt"}, "evt"),
        (NAMELESS, None, {"firmtrail.model": "evt"}, "evt"),
        (NAMELESS, None, {"hw": "evt"}, None),
        (NAMELESS, "hw", {"hw": "evt", "firmtrail.model": "other"}, "evt"),
        (PUMP, None, {"firmtrail.model": "evt"}, None),
        (PUMP, "hw", {"firmtrail.model": "evt"}, None),
        (PUMP, "hw", {"hw": "evt"}, "evt"),
        (PUMP, "hw", {"hw": "pump"}, None),
        (PUMP, "hw", {"hw": ""}, None),
        (PUMP, "hw", {"hw": "no name"}, None),
        (PUMP, "hw", {"hw": "x" * 65}, None),
        (PUMP, "hw", {"hw": "name\n"}, None),
    ],
)
def test_a_device_names_its_model_once_or_if_the_project_lets_it(
    state: DeviceState, named: str | None, said: dict[str, str], model: str | None
) -> None:
    assert attributes.named_model(Settings(model_attribute=named), state, said) == model


def test_a_version_is_news_if_it_is_another_one_or_another_was_awaited() -> None:
    running = replace(PUMP, version="1.0.0", status="running", last_version="1.0.0")
    assert not attributes.is_news(running, "1.0.0")
    assert attributes.is_news(running, "1.1.0")
    assert attributes.is_news(PUMP, "1.0.0")
    assert attributes.is_news(replace(running, installing_version="1.1.0"), "1.0.0")
    assert not attributes.is_news(replace(running, status="downloading"), "1.0.0")
