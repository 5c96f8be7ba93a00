"""Groups the reasons that devices gave for their failures."""

from firmtrail.projections.rollout_failures import REASONS_MAX, FailedDevice, grouped


def reported(device: str, detail: str) -> FailedDevice:
    return FailedDevice(device, "reported", detail)


def test_texts_that_differ_in_numbers_and_case_are_one_reason_named_by_the_newest() -> None:
    failures = [
        reported("d1", "No space left: 0x1f of 200 bytes"),
        reported("d2", "signature not valid"),
        reported("d3", "no space left: 4 of 10 bytes"),
    ]
    found = grouped(failures)
    assert [(each.reason, each.devices, each.example) for each in found] == [
        ("No space left: 0x1f of 200 bytes", 2, "d1"),
        ("signature not valid", 1, "d2"),
    ]


def test_failures_without_a_text_are_counted_by_their_kind() -> None:
    failures = [FailedDevice("d1", "silent", None), FailedDevice("d2", "no_reason", None)]
    failures += [FailedDevice("d3", "silent", None), FailedDevice("d4", "other_version", None)]
    assert [(each.kind, each.devices) for each in grouped(failures)] == [
        ("silent", 2),
        ("no_reason", 1),
        ("other_version", 1),
    ]


def test_the_rarer_reasons_are_counted_together() -> None:
    words = [chr(ord("a") + n) * 3 for n in range(REASONS_MAX + 4)]
    found = grouped([reported(f"d{word}", word) for word in words])
    assert len(found) == REASONS_MAX + 1
    assert (found[-1].kind, found[-1].devices) == ("other", 4)
    assert sum(each.devices for each in found) == len(words)


def test_no_failure_has_no_reason() -> None:
    assert grouped([]) == []
