"""Tests which device a certificate is for."""

import re

import pytest

from firmtrail.rules.certificate import PATTERN, CertificateName, device_of

NAMES = frozenset(
    CertificateName(*each.split("=", 1))
    for each in (
        *("CN=pump-7", "O=acme", "OU=a", "OU=b", "serialNumber=00:1A"),
        *("DNS=pump-7.fleet.example.org", "DNS=pump-7.other.example.org", "URI=urn:acme:pump-7"),
    )
)


@pytest.mark.parametrize(
    ("pattern", "device"),
    [
        ("CN={device}", "pump-7"),
        ("CN=pump-{device}", "7"),
        ("serialNumber={device}", "00:1A"),
        ("DNS={device}.fleet.example.org", "pump-7"),
        ("URI=urn:acme:{device}", "pump-7"),
        ("O=acme,CN={device}", "pump-7"),
        ("CN={device},OU=b,O=acme", "pump-7"),
        ("O=ACME,CN={device}", None),
        ("O=acm,CN={device}", None),
        ("O=acme,OU=c,CN={device}", None),
        ("CN=valve-{device}", None),
        ("DNS={device}xfleet.example.org", None),
        ("DNS={device}.example.org", None),
        ("OU={device}", None),
        ("URI={device}", "urn:acme:pump-7"),
    ],
)
def test_a_pattern_finds_the_one_device_of_a_certificate(pattern: str, device: str | None) -> None:
    assert re.search(PATTERN, pattern)
    assert device_of(pattern, NAMES) == device


@pytest.mark.parametrize(
    "value", ["", "a b", "-x", "x\0", "x\n", "é", "x" * 129, "../x", "{device}"]
)
def test_a_text_that_is_no_devices_name_finds_none(value: str) -> None:
    assert device_of("CN={device}", frozenset({CertificateName("CN", value)})) is None


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "CN", "CN=", "CN=x", "{device}", "cn={device}", "C={device}", "CN={device}{device}"),
        *("CN={device},DNS={device}", "CN={device},", ",CN={device}", "O=,CN={device}"),
        *("CN={Device}", "CN={device}\n", "O=a\0,CN={device}", "O={x},CN={device}"),
    ],
)
def test_a_pattern_names_the_device_in_one_place(pattern: str) -> None:
    assert re.search(PATTERN, pattern) is None
