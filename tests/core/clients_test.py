"""Tests that only headers of trusted proxies decide who the client is."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from firmtrail.access import addresses
from firmtrail.config import networks
from firmtrail.http.clients import LOCAL, Clients

PROXY = "10.0.0.1"
TRUSTED = Clients(networks("10.0.0.0/8,2001:db8:a::/48"))


def request(headers: list[tuple[str, str]], peer: str = PROXY) -> Any:
    made = make_mocked_request("GET", "/x", headers=CIMultiDict([("Host", "in.example"), *headers]))
    return made.clone(remote=peer)


def forwarded_for(*values: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", value) for value in values]


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("Forwarded", value) for value in values]


ADDRESSES = {
    "no header": ([], PROXY),
    "one": (forwarded_for("192.0.2.1"), "192.0.2.1"),
    "the right-most one that is not trusted": (
        forwarded_for("6.6.6.6, 192.0.2.1, 10.0.0.7"),
        "192.0.2.1",
    ),
    "several lines are one list": (forwarded_for("6.6.6.6, 192.0.2.1", "10.0.0.7"), "192.0.2.1"),
    "all trusted: the first": (forwarded_for("10.0.0.9, 10.0.0.7"), "10.0.0.9"),
    "a port": (forwarded_for("192.0.2.1:4711"), "192.0.2.1"),
    "IPv6": (forwarded_for("2001:DB8::0:1"), "2001:db8::1"),
    "IPv6 in brackets": (forwarded_for("[2001:db8::1]:4711"), "2001:db8::1"),
    "IPv4 as IPv6": (forwarded_for("::ffff:192.0.2.1"), "192.0.2.1"),
    "a trusted IPv6 proxy": (forwarded_for("192.0.2.1, 2001:db8:a::7"), "192.0.2.1"),
    "no address": (forwarded_for("6.6.6.6, unknown"), PROXY),
    "nothing": (forwarded_for(""), PROXY),
    "an empty member": (forwarded_for("6.6.6.6, "), PROXY),
    "no address left of a trusted one": (forwarded_for("junk, 10.0.0.7"), "10.0.0.7"),
    "a zone": (forwarded_for("fe80::1%eth0"), PROXY),
    "a host name": (forwarded_for("localhost"), PROXY),
    "digits that are not ASCII": (forwarded_for("\uff1192.0.2.1"), PROXY),
    "a number": (forwarded_for("3232235777"), PROXY),
    "leading zeros": (forwarded_for("192.0.02.1"), PROXY),
    "Forwarded": (forwarded("for=192.0.2.1;proto=https"), "192.0.2.1"),
    "Forwarded, IPv6": (forwarded('for="[2001:db8::1]:4711"'), "2001:db8::1"),
    "Forwarded, several": (forwarded("for=6.6.6.6, for=192.0.2.1", "For=10.0.0.7"), "192.0.2.1"),
    "Forwarded, hidden": (forwarded("for=6.6.6.6, for=_hidden"), PROXY),
    "Forwarded, unknown": (forwarded("for=unknown"), PROXY),
    "Forwarded, without for": (forwarded("for=6.6.6.6, proto=https"), PROXY),
    "Forwarded, an open quote": (forwarded('for=6.6.6.6, for="a', 'for="[2001:db8::1]"'), None),
    "both, the same": (forwarded_for("192.0.2.1") + forwarded("for=192.0.2.1"), "192.0.2.1"),
    "both, different": (forwarded_for("192.0.2.1") + forwarded("for=6.6.6.6"), PROXY),
    "other headers": ([("X-Real-IP", "6.6.6.6"), ("True-Client-IP", "6.6.6.6")], PROXY),
}


@pytest.mark.parametrize(("headers", "address"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_the_client_is_the_right_most_address_that_is_not_a_proxys(
    headers: list[tuple[str, str]], address: str | None
) -> None:
    found = TRUSTED.address(request(headers))
    assert found == address if address else found != "6.6.6.6"


@pytest.mark.parametrize("clients", [TRUSTED, Clients()], ids=["not from it", "none trusted"])
def test_headers_of_untrusted_peers_are_ignored(clients: Clients) -> None:
    headers = [
        *forwarded_for("6.6.6.6"),
        *forwarded("for=6.6.6.6;proto=https;host=evil"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
    ]
    sent = request(headers, peer="192.0.2.9")
    assert clients.address(sent) == "192.0.2.9"
    assert (clients.prefix(sent), clients.base_url(sent)) == ("", "")


def test_the_unix_socket_has_an_address_of_its_own() -> None:
    assert TRUSTED.address(request(forwarded_for("6.6.6.6"), peer="")) == LOCAL


@pytest.mark.parametrize("clients", [TRUSTED, Clients()])
def test_an_ipv4_peer_of_an_ipv6_socket_is_ipv4(clients: Clients) -> None:
    assert clients.address(request([], peer="::ffff:192.0.2.1")) == "192.0.2.1"
    assert clients.address(request([], peer="fe80::1%eth0")) == "fe80::1"
    assert TRUSTED.address(request(forwarded_for("6.6.6.6"), peer="::ffff:10.0.0.1")) == "6.6.6.6"


def forwarded_headers(proto: str = "", host: str = "", prefix: str = "") -> list[tuple[str, str]]:
    values = {"Proto": proto, "Host": host, "Prefix": prefix}
    return [(f"X-Forwarded-{name}", value) for name, value in values.items() if value]


BASES = {
    "nothing": ([], ""),
    "all": (forwarded_headers("https", "out.example", "/ft"), "https://out.example/ft"),
    "a port": (forwarded_headers("https", "out.example:8443"), "https://out.example:8443"),
    "IPv6": (forwarded_headers("https", "[2001:db8::1]:8443"), "https://[2001:db8::1]:8443"),
    "the scheme alone": (forwarded_headers("https"), "https://in.example"),
    "the host alone": (forwarded_headers(host="out.example"), "http://out.example"),
    "the prefix alone": (forwarded_headers(prefix="/a/b/"), "/a/b"),
    "no scheme": (forwarded_headers("javascript", "out.example"), "http://out.example"),
    "no host": (forwarded_headers("https", "a/b"), "https://in.example"),
    "a host with a user": (forwarded_headers("https", "me@out.example"), "https://in.example"),
    "another host by the prefix": (forwarded_headers(prefix="//evil.example"), ""),
    "a prefix that goes up": (forwarded_headers(prefix="/a/../b"), ""),
    "a prefix that ends the header": (forwarded_headers(prefix='/a>; rel="x"'), ""),
    "a prefix that is a root": (forwarded_headers(prefix="/"), ""),
    "Forwarded": (forwarded('for=192.0.2.1;proto=https;host="out.example"'), "https://out.example"),
    "through two proxies": (
        [
            *forwarded_for("6.6.6.6, 192.0.2.1, 10.0.0.7"),
            *forwarded_headers("http, https, http", "evil.example, out.example, in.example"),
        ],
        "https://out.example",
    ),
}


@pytest.mark.parametrize(("headers", "base_url"), BASES.values(), ids=BASES.keys())
def test_a_trusted_proxy_reports_the_url_of_the_client(
    headers: list[tuple[str, str]], base_url: str
) -> None:
    assert TRUSTED.base_url(request(headers)) == base_url


@given(st.lists(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40)))
def test_no_header_is_ever_an_error(values: list[str]) -> None:
    names = ["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "X-Forwarded-Prefix"]
    headers = [(names[n % len(names)], value) for n, value in enumerate(values)]
    sent = request(headers)
    assert addresses.parsed(TRUSTED.address(sent)) is not None
    assert TRUSTED.base_url(sent) == TRUSTED.base_url(sent)


def test_a_list_of_networks_is_read() -> None:
    assert [str(each) for each in networks("10.1.2.3/8, 192.0.2.1,::1")] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "::1/128",
    ]
