"""Webhooks reach only addresses of the public internet, unless the operator allows a network."""

import asyncio
import socket
from ipaddress import ip_network
from threading import Event
from typing import Any

import pytest

from firmtrail.webhooks.look_ups import LookUps, TooManyLookUps
from firmtrail.webhooks.targets import AllowedTargets, CheckedResolver, TargetRefused, target_of

PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "0.1.2.3", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("100.64.0.1", "169.254.169.254", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200", "239.255.255.250"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "::ffff:0:7f00:1", "2001:db8::1", "2001::1"),
    *("100::1", "3fff::1"),
)
PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808", "::ffff:8.8.8.8")
NONE_ALLOWED = AllowedTargets()


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert NONE_ALLOWED.fault_of(address, "https") is not None
    assert NONE_ALLOWED.fault_of(address, "http") is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_reached_by_https_only(address: str) -> None:
    assert NONE_ALLOWED.fault_of(address, "https") is None
    assert NONE_ALLOWED.fault_of(address, "http") is not None


def test_a_network_that_the_operator_allows_is_reached_in_every_form() -> None:
    allowed = AllowedTargets((ip_network("10.1.0.0/16"), ip_network("fd00::/16")))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"):
        assert allowed.fault_of(address, "http") is None
    for address in ("10.2.0.1", "127.0.0.1", "fd01::1"):
        assert allowed.fault_of(address, "https") is not None


async def test_a_name_with_one_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(*_: object, **__: object) -> object:
        addresses = ("93.184.216.34", "10.0.0.1")
        return [(socket.AF_INET, 1, 6, "", (each, 0)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(TargetRefused) as refused:
        await CheckedResolver(NONE_ALLOWED, LookUps(), "https").resolve("hooks.example.org", 443)
    assert "10.0.0.1" not in str(refused.value)


async def test_a_name_of_this_machine_is_refused() -> None:
    with pytest.raises(TargetRefused):
        await CheckedResolver(NONE_ALLOWED, LookUps(), "https").resolve("localhost", 443)
    local = AllowedTargets((ip_network("127.0.0.0/8"), ip_network("::1")))
    assert await CheckedResolver(local, LookUps(), "http").resolve("localhost", 80)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://h/", "https://", "https:///x", "//h/x", "https://h:0/", "https://h:x/"),
        *(
            "https://u@h/",
            "https://u:p@h/",
            "https://h\\@i/",
            "https://h /",
            "https://h/\n",
            "https://h/#x",
        ),
        *(
            "https://\u24d4xample.org/",
            "https://h/" + "x" * 2_000,
            "file:///etc/passwd",
            "https://[::1/",
            "https://a..b/",
            f"https://{'a' * 64}.example/",
        ),
    ],
)
def test_a_url_that_is_no_receivers_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|no URL"):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Hooks.example.org/a/b?c=d", "https://hooks.example.org"),
        ("https://hooks.example.org:8443/secret", "https://hooks.example.org:8443"),
        ("http://[::1]:80/x", "http://[::1]"),
    ],
)
def test_the_origin_of_a_url_has_no_path(url: str, origin: str) -> None:
    assert target_of(url).origin == origin


async def test_a_look_up_that_hangs_takes_no_thread_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, real, begun = Event(), socket.getaddrinfo, list[str]()

    def found(host: str, *args: Any, **named: Any) -> Any:
        if host.endswith(".hangs"):
            begun.append(host)
            answered.wait(30)
        return real("127.0.0.1", *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr("firmtrail.webhooks.look_ups.LOOK_UPS_MAX", 40)
    look_ups = LookUps()
    hanging = [asyncio.create_task(look_ups.addresses(f"{n % 39}.hangs")) for n in range(200)]
    await asyncio.sleep(0)
    assert await look_ups.addresses("hooks.example.org") == [(socket.AF_INET, "127.0.0.1")]
    async with asyncio.timeout(10):
        await asyncio.gather(*(asyncio.to_thread(len, "x") for _ in range(20)))
    [waits, *impatient] = hanging
    for each in impatient:
        each.cancel()
    one_more = asyncio.create_task(look_ups.addresses("39.hangs"))
    await asyncio.sleep(0)
    with pytest.raises(TooManyLookUps):
        await look_ups.addresses("hooks.example.org")
    answered.set()
    assert await waits == await one_more == [(socket.AF_INET, "127.0.0.1")]
    assert len(begun) == 40
    assert await look_ups.addresses("hooks.example.org")


async def test_a_host_that_is_not_found_is_looked_up_again() -> None:
    look_ups = LookUps()
    for _ in range(2):
        with pytest.raises(OSError, match=r"\[Errno"):
            await look_ups.addresses("nobody.invalid")
