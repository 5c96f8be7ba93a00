"""Updates devices whose clients are those of the field: Debian's SWUpdate, and RAUC's from PyPI."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError
from rauc_hawkbit.ddi.cancel_action import CancelStatusExecution, CancelStatusResult
from rauc_hawkbit.ddi.client import APIError, ConfigStatusExecution, ConfigStatusResult, DDIClient
from rauc_hawkbit.ddi.deployment_base import DeploymentStatusExecution, DeploymentStatusResult

from tests.end_to_end.field import Field, field, network, wait_for
from tests.end_to_end.network import Network
from tests.end_to_end.site import MODEL, P, get
from tests.end_to_end.swupdate import Swupdate

__all__ = ["field", "network"]


async def test_swupdate_installs_confirms_fails_cancels_and_goes_back(
    field: Field, network: Network
) -> None:
    certificate, secret = field.signer.certificate, field.site.secrets["d1"]
    d1 = Swupdate(field.folder, certificate, network.url, "d1", secret)
    await is_refused_with_a_wrong_token(field, d1)
    await installs_over_a_broken_network(field, network, d1)
    await is_confirmed_after_a_pause(field, d1)
    await fails_with_its_log(field, d1)
    await cancels(field, d1)
    await goes_back(field, d1)
    statuses = [status for _, status in await field.said("d1")]
    assert statuses.count("installed") == 3  # 1.0.0 at first, 1.1.0, and 1.0.0 again


async def is_refused_with_a_wrong_token(field: Field, d1: Swupdate) -> None:
    size, stranger = await field.log_size(), replace(d1, secret="wrong-" * 8)
    async with stranger.running():
        await until_said(stranger, "HTTP error code 401")
    assert await field.log_size() == size


async def until_said(device: Swupdate, text: str) -> None:
    """Waits until the daemon prints a text."""

    async def is_said() -> bool:
        return text in device.log.read_text(errors="replace")

    await wait_for(is_said, f"swupdate prints {text}")


async def is_refused(network: Network) -> bool:
    return network.refused > 0


async def installs_over_a_broken_network(field: Field, network: Network, d1: Swupdate) -> None:
    """The server is away at first, then has nothing to do, and the download breaks off once."""
    payload, size = await field.release("1.1.0"), await field.log_size()
    network.cut_after_bytes = len(payload) // 2
    network.leave()
    async with d1.running():
        await wait_for(lambda: is_refused(network), "swupdate asks")
        network.come_back()
        await until_said(d1, "< HTTP/1.1 200 OK")
        assert await field.log_size() == size
        rollout = await field.roll_out("1.1.0")
        await field.until("d1", "1.1.0", "rebooting")
    assert network.cuts == 1
    assert field.installed.read_bytes() == payload
    await field.steer(f"rollouts/{rollout}/pause", reason="a look")


async def is_confirmed_after_a_pause(field: Field, d1: Swupdate) -> None:
    async with d1.running("-c", "2"):
        await field.until("d1", "1.1.0", "installed")
    statuses = [status for version, status in await field.said("d1") if version == "1.1.0"]
    assert statuses == ["downloading", "installing", "rebooting", "installed"]


async def fails_with_its_log(field: Field, d1: Swupdate) -> None:
    await field.put("1.2.0", b"no image" * 1_000)
    rollout = await field.roll_out("1.2.0")
    async with d1.running():
        await field.until("d1", "1.2.0", "failed")
        await field.steer(f"rollouts/{rollout}/abort", reason="no image")
    assert (await field.failure("d1")).endswith("No suitable .swu image found")


async def cancels(field: Field, d1: Swupdate) -> None:
    """The offer reaches the device only after it was paused."""
    await field.release("1.3.0")
    rollout = await field.roll_out("1.3.0")
    update = f"{field.server.url}{P}/devices/d1/update"
    offered = (await get(field.session, update, field.site.secrets["d1"])).json
    assert offered["version"] == "1.3.0"
    await field.steer(f"rollouts/{rollout}/pause", reason="not yet")
    async with d1.running():
        await wait_for(lambda: field.is_ended("d1", offered["offer"]), "the action is cancelled")
    await field.steer(f"rollouts/{rollout}/abort", reason="never")


async def goes_back(field: Field, d1: Swupdate) -> None:
    payload = await field.release("1.0.0")
    bad = {"bad_version": "1.1.0", "model": MODEL, "to": "previous", "reason": "bad"}
    await field.steer("rollbacks", **bad)
    async with d1.running():
        await field.until("d1", "1.0.0", "rebooting")
    assert field.installed.read_bytes() == payload
    async with d1.running("-c", "2"):

        async def is_back() -> bool:
            return bool((await field.read("devices/d1"))["version"] == "1.0.0")

        await wait_for(is_back, "d1 runs 1.0.0 again")


class Rauc:
    """Holds a device whose program uses RAUC's client."""

    def __init__(self, field: Field, url: str, secret: str) -> None:
        self.field, host = field, urlsplit(url).netloc
        self.client = DDIClient(field.session, host, False, secret, "DEFAULT", "d2")  # noqa: FBT003

    async def linked(self, name: str) -> Any:
        """Polls, and returns the resource of this name that the answer links to, described."""
        link = urlsplit((await self.client())["_links"][name]["href"])
        action = getattr(self.client, name)[link.path.rpartition("/")[2]]
        return action, await action(*filter(None, [link.query.partition("=")[2]]))

    async def say(self, action: Any, how: str, result: str, *details: str, **progress: int) -> None:
        status = DeploymentStatusExecution[how], DeploymentStatusResult[result]
        await action.feedback(*status, details, **progress)

    async def load(self, described: Any) -> bytes:
        [file] = described["deployment"]["chunks"][0]["artifacts"]
        loaded = self.field.folder / "bundle"
        checked = await self.client.get_binary(file["_links"]["download"]["href"], str(loaded))
        assert checked == file["hashes"]["md5"]
        return loaded.read_bytes()


@pytest.fixture
def d2(field: Field, network: Network) -> Rauc:
    return Rauc(field, network.url, field.site.secrets["d2"])


BUNDLE = b"a bundle" * 8_000


async def test_raucs_client_says_what_it_is_and_installs(
    field: Field, network: Network, d2: Rauc
) -> None:
    """The server is away for a while, and the download breaks off once; this client loads a file
    from its beginning then."""
    await field.put("1.1.0", BUNDLE)
    with pytest.raises(APIError, match="401"):
        await Rauc(field, network.url, "wrong").client()
    with network.away(), pytest.raises(ClientConnectionError):
        await d2.client()
    assert set((await d2.client())["_links"]) == {"configData"}
    done = ConfigStatusExecution.closed, ConfigStatusResult.success
    await d2.client.configData(*done, board="b7", version="1.0.0")
    size = await field.log_size()
    assert "_links" not in await d2.client()
    assert await field.log_size() == size
    await field.roll_out("1.1.0")
    action, described = await d2.linked("deploymentBase")
    network.cut_after_bytes = len(BUNDLE) // 2
    with pytest.raises(ClientPayloadError):
        await d2.load(described)
    assert await d2.load(described) == BUNDLE
    for percentage in range(0, 100, 5):
        await d2.say(action, "proceeding", "none", f"{percentage} %", percentage=percentage)
    again, _ = await d2.linked("deploymentBase")  # as after a restart
    await d2.say(again, "closed", "success", "Software bundle installed successfully.")
    statuses = [status for version, status in await field.said("d2") if version == "1.1.0"]
    assert statuses == ["installing", "installed"]
    assert "deploymentBase" not in (await d2.client())["_links"]


async def test_raucs_client_fails_cancels_and_goes_back(field: Field, d2: Rauc) -> None:
    for version in ("1.1.0", "1.2.0"):
        await field.put(version, BUNDLE)
    rollout = await field.roll_out("1.1.0")
    action, _ = await d2.linked("deploymentBase")
    await d2.say(action, "closed", "failure", "LastError: no space", "Failed to install.")
    assert await field.failure("d2") == "LastError: no space\nFailed to install."
    again, _ = await d2.linked("deploymentBase")
    await field.steer(f"rollouts/{rollout}/pause", reason="a look")
    stop, order = await d2.linked("cancelAction")
    assert order["cancelAction"]["stopId"] == again.action_id
    cancelled = CancelStatusExecution.closed, CancelStatusResult.success
    await stop.feedback(*cancelled, ["Action canceled."])
    assert await field.is_ended("d2", int(again.action_id))
    assert "cancelAction" not in (await d2.client()).get("_links", {})
    await field.steer(f"rollouts/{rollout}/abort", reason="never")
    await installs(d2, "1.2.0")
    await field.put("1.0.0", BUNDLE)
    bad = {"bad_version": "1.2.0", "model": MODEL, "to": "previous", "reason": "bad"}
    await field.steer("rollbacks", **bad)
    action, described = await d2.linked("deploymentBase")
    assert described["deployment"]["chunks"][0]["version"] == "1.0.0"
    await d2.say(action, "closed", "success")
    assert (await field.read("devices/d2"))["version"] == "1.0.0"


async def installs(d2: Rauc, version: str) -> None:
    await d2.field.roll_out(version)
    action, _ = await d2.linked("deploymentBase")
    await d2.say(action, "proceeding", "none", "installing")
    await d2.say(action, "closed", "success")
    assert (await d2.field.read("devices/d2"))["version"] == version
