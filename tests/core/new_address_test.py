"""Addresses to which the requests of a moved project can be sent on, and others."""

import msgspec
import pytest

from firmtrail.commands import new_address
from firmtrail.http.api.project_moves import WantedMove

GOOD = (
    "https://eu.example",
    "http://eu.example:8080/fleet",
    "https://[2001:db8::1]:8443",
    "https://192.0.2.1/a/b",
    "https://xn--e-eha.example",
)

BAD = {
    "https://eu.example\n": "visible ASCII",
    "https://eu.example\x00x": "visible ASCII",
    "https://eu.example\x7f": "visible ASCII",
    "https://eu.example\u2028x": "visible ASCII",
    "https://e\xfc.example": "visible ASCII",
    "https://eu example": "visible ASCII",
    "https://eu\\example": "visible ASCII",
    f"https://eu.example/{'a' * 1_000}": "at most 1000",
    "http://[::1": "is no URL",
    "https://eu.example:99999": "is no URL",
    "https://eu.example:0": "with a host",
    "ftp://eu.example": "with a host",
    "https:///fleet": "with a host",
    "eu.example": "with a host",
    "https://ann:secret@eu.example": "a user",
    "https://@eu.example": "a user",
    "https://eu.example?a=b": "a query",
    "https://eu.example?": "a query",
    "https://eu.example#": "a fragment",
    "https://eu..example": "between the dots",
    "https://eu.example/": "written as https://eu.example$",
    "https://eu.example:": "written as https://eu.example$",
    "HTTPS://EU.example": "written as https://eu.example$",
    "https://eu.example/a/../..": "written as https://eu.example$",
    "https://eu.example/a%zz": "written as https://eu.example/a%25zz$",
}


@pytest.mark.parametrize("address", GOOD)
def test_an_address_before_a_path(address: str) -> None:
    new_address.check(address)
    assert msgspec.convert({"to": "eu", "address": address}, WantedMove).address == address


@pytest.mark.parametrize("address", BAD)
def test_an_address_that_clients_would_not_follow_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=BAD[address]):
        new_address.check(address)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"to": "eu", "address": address}, WantedMove)
