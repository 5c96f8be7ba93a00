"""Tests that a server speaks exactly the protocols that it was asked to speak."""

from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from firmtrail import config, protocols
from firmtrail.application import app
from firmtrail.application.routes import ROUTES, served
from firmtrail.cli.serve import serve
from tests.service.site import D, P, Site
from tests.serving import with_settings

OTHERS = config.PROTOCOLS[1:]


def test_every_protocol_of_others_has_its_routes_in_the_registry() -> None:
    assert tuple(protocols.ROUTES) == OTHERS


@pytest.mark.parametrize("name", OTHERS)
def test_a_protocol_that_is_left_out_has_no_route(name: str) -> None:
    left = [each for each in config.PROTOCOLS if each != name]
    assert name not in {each.protocol for each in served(left, has_seed=True, is_demo=True)}


@pytest.mark.parametrize("name", OTHERS)
def test_each_route_knows_its_protocol(name: str) -> None:
    routes = served([name], has_seed=False, is_demo=False)
    of_others = [each for each in routes if each.protocol != config.NATIVE]
    assert [each.protocol for each in of_others] == [name] * len(protocols.ROUTES[name])


def test_without_native_only_the_routes_of_devices_are_left_out() -> None:
    left = served(["hawkbit"], has_seed=False, is_demo=False)
    missing = {(each.method, each.path) for each in ROUTES if each not in left}
    assert missing == {(each.method, each.path) for each in ROUTES if each.is_of_devices}
    assert missing


async def test_a_server_without_native_hides_the_routes_of_devices(site: Site) -> None:
    services = with_settings(site.services, protocols=("hawkbit",))
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        other = replace(site, client=client)
        for path in (f"{D}/reports", f"{P}/reports"):
            answer = await other.call("POST", path, caller="device", json={"version": "1.0.0"})
            assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert (await other.get(f"{D}/update", "device")).status == 404
        assert (await other.get(D)).status == 200
    assert (await site.get(f"{D}/update", "device")).status == 200


async def test_requests_are_counted_by_protocol(site: Site) -> None:
    await site.get(f"{D}/update", "device")
    lines = (await site.get("/metrics")).body.decode().splitlines()
    [line] = [
        each
        for each in lines
        if each.startswith("firmtrail_http_request_duration_seconds_count")
        and "{device}/update" in each
    ]
    assert 'protocol="native"' in line


@pytest.mark.parametrize("text", ["native,hawkbitt", "NATIVE", "", ","])
def test_names_of_protocols_that_do_not_exist_are_a_usage_error(text: str) -> None:
    done = CliRunner().invoke(
        serve, ["--protocols", text], obj=config.database("sqlite:///unused.db")
    )
    assert done.exit_code == 2
    assert "the protocols are native, hawkbit, memfault, mender, plain" in " ".join(
        done.output.split()
    )


def test_names_of_protocols_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRMTRAIL_SERVE_PROTOCOLS", "mender,nothing")
    database = config.database("sqlite:///unused.db")
    done = CliRunner().invoke(serve, [], obj=database, auto_envvar_prefix="FIRMTRAIL_SERVE")
    assert done.exit_code == 2
    assert "nothing" in done.output


def test_protocols_are_read_in_their_own_order_and_once() -> None:
    assert config.protocols("mender, native,mender") == ("native", "mender")
