"""Tests that a device's story means the same in whatever protocol its client tells it.

One story is played by several devices, each of a model with the same releases and rollouts, and
each through another protocol. Then their versions, their histories and the counts of their rollouts
are the same.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.people import add_secret
from tests.service.enrolment_test import let_join
from tests.service.mender_device import DEPLOYMENTS, MenderDevice
from tests.service.site import Answer, P, Site

type Step = Literal[
    "roll out", "pause", "resume", "roll back", "installs", "fails", "falls back", "begins", "asks"
]
STEPS: tuple[Step, ...] = (
    "roll out", "installs", "pause", "fails", "resume", "falls back", "begins", "asks", "roll back"
)  # fmt: skip
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


class Teller(NamedTuple):
    """Holds a device, its model, and how its client speaks."""

    site: Site
    model: str
    device: str

    async def operator(self, path: str, body: Any = None) -> Any:
        answer = await self.site.call("POST", f"{P}/{path}", caller="operator", json=body or {})
        return answer.json if answer.body else None

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request of the device with its own secret."""
        return await self.site.call(
            method, path, caller=self.device, json=body, headers=headers or None
        )

    async def shown(self, path: str) -> Any:
        return (await self.site.get(f"{P}/{path}")).json


type Run = Callable[[Teller, str], Awaitable[None]]
"""Says that the device runs this version."""
type Visit = Callable[[Teller, Step, str], Awaitable[str | None]]
"""Asks what to run, and follows the answer as the step says; returns the version that runs then,
if it is another one."""


async def native_runs(teller: Teller, version: str) -> None:
    await _report(teller, version, "running")


async def native_visit(teller: Teller, step: Step, runs: str) -> str | None:
    update = (await teller.send("GET", f"{P}/devices/{teller.device}/update")).json
    if update["version"] is None or step == "asks":
        return None
    version: str = update["version"]
    await _report(teller, version, "downloading")
    if step == "begins":
        return None
    await _report(teller, version, "installing")
    match step:
        case "installs":
            await _report(teller, version, "installed")
            return version
        case "fails":
            await _report(teller, version, "failed")
        case _:
            await _report(teller, runs, "running")
    return None


async def _report(teller: Teller, version: str, status: str) -> None:
    body = {"version": version, "status": status}
    answer = await teller.send("POST", f"{P}/devices/{teller.device}/reports", body)
    assert answer.status in {200, 201}, answer.body


async def saying_runs(teller: Teller, version: str) -> None:
    """Says the running version by an attribute."""
    body = {"data": {"firmtrail.version": version}}
    answer = await teller.send("PUT", f"{P}/devices/{teller.device}/attributes", body)
    assert answer.status == 200, answer.body


async def saying_visit(teller: Teller, step: Step, runs: str) -> str | None:
    update = (await teller.send("GET", f"{P}/devices/{teller.device}/update")).json
    if update["version"] is None or step == "asks":
        return None
    version: str = update["version"]
    await _report(teller, version, "downloading")
    if step == "begins":
        return None
    await _report(teller, version, "installing")
    if step == "fails":
        await _report(teller, version, "failed")
        return None
    await saying_runs(teller, version if step == "installs" else runs)
    return version if step == "installs" else None


async def _ddi(teller: Teller, method: str, below: str, body: Any = None) -> Answer:
    secret = teller.site.credentials[teller.device]
    path = f"/acme/controller/v1/{teller.device}{below}"
    answer = await teller.site.call(
        method, path, json=body, headers={"Authorization": f"TargetToken {secret}"}
    )
    assert answer.status == 200, (method, path, body, answer.status, answer.body)
    return answer


async def ddi_runs(teller: Teller, version: str) -> None:
    await _ddi(teller, "PUT", "/configData", {"data": {"firmtrail.version": version}})


async def ddi_visit(teller: Teller, step: Step, runs: str) -> str | None:
    links = (await _ddi(teller, "GET", "")).json.get("_links", {})
    if "cancelAction" in links:
        cancelled = links["cancelAction"]["href"].rpartition("/")[2].partition("?")[0]
        body = {"id": cancelled, "status": _status("closed", "success")}
        await _ddi(teller, "POST", f"/cancelAction/{cancelled}/feedback", body)
        links = (await _ddi(teller, "GET", "")).json.get("_links", {})
    if "deploymentBase" not in links or step == "asks":
        return None
    action = links["deploymentBase"]["href"].rpartition("/")[2].partition("?")[0]
    [chunk] = (await _ddi(teller, "GET", f"/deploymentBase/{action}")).json["deployment"]["chunks"]

    async def feedback(execution: str, finished: str = "none", **progress: Any) -> None:
        body = {"id": action, "status": _status(execution, finished, **progress)}
        await _ddi(teller, "POST", f"/deploymentBase/{action}/feedback", body)

    await feedback("proceeding", progress={"cnt": 0, "of": 1})
    if step == "begins":
        return None
    await feedback("proceeding")
    match step:
        case "installs":
            await feedback("closed", "success")
            return str(chunk["version"])
        case "fails":
            await feedback("closed", "failure")
        case _:
            await ddi_runs(teller, runs)
    return None


def _status(execution: str, finished: str, **progress: Any) -> dict[str, Any]:
    return {"execution": execution, "result": {"finished": finished, **progress}, "details": []}


async def mender_runs(teller: Teller, version: str) -> None:
    if "join" not in teller.site.credentials:
        await let_join(teller.site)
    await _next(await _authenticated(teller, version))


async def mender_visit(teller: Teller, step: Step, runs: str) -> str | None:
    device = await _authenticated(teller, runs)
    deployment = await _next(device)
    if deployment is None or step == "asks":
        return None

    async def status(*steps: str) -> None:
        assert {await device.status(deployment["id"], each) for each in steps} == {204}, steps

    await status("downloading", "downloading")
    if step == "begins":
        return None
    await status("installing", "installing")
    match step:
        case "installs":
            await status("success")
            return str(deployment["artifact"]["artifact_name"])
        case "fails":
            await status("failure")
            log = {"messages": [{"level": "error", "message": "worn", "timestamp": "now"}]}
            path = f"{DEPLOYMENTS}/{deployment['id']}/log"
            assert (await device.call("PUT", path, log)).status == 204
        case _:
            await status("rebooting", "failure")
    return None


async def _authenticated(teller: Teller, runs: str) -> MenderDevice:
    """Returns the client of the device, as after a restart: it has its key, and a new token."""
    key = Ed25519PrivateKey.from_private_bytes(sha256(teller.device.encode()).digest())
    tenant = teller.site.credentials["join"]
    device = MenderDevice(teller.site, tenant, teller.device, key, "", runs, teller.model)
    answer = await device.authenticate()
    assert answer.status == 200, answer.body
    return device


async def _next(device: MenderDevice) -> Any:
    answer = await device.next()
    assert answer.status in {200, 204}, answer.body
    return answer.json if answer.body else None


class Protocol(NamedTuple):
    """Holds how clients of a protocol speak."""

    runs: Run
    visit: Visit
    has_fallbacks: bool = True
    """Whether a client can fall back without a word of failure. Mender's says that it failed, so
    the device counts as failing until the next install."""


NATIVE = Protocol(native_runs, native_visit)
OTHERS = {
    "attributes": Protocol(saying_runs, saying_visit),
    "hawkbit": Protocol(ddi_runs, ddi_visit),
    "mender": Protocol(mender_runs, mender_visit, has_fallbacks=False),
}


async def begin(site: Site) -> Teller:
    """Registers a device of a model of its own, with releases that have a file."""
    name = f"m{uuid4().hex}"
    teller = Teller(site, name, f"d-{name}")
    await teller.operator("devices", {"device": teller.device, "model": name})
    site.credentials[teller.device] = await add_secret(
        site.services.db, site.services.access, "acme", teller.device
    )
    for version in VERSIONS:
        await teller.operator("releases", {"model": name, "version": version})
        path = f"{P}/releases/{name}/{version}/artifacts/image.swu"
        put = await site.call("PUT", path, caller="operator", data=f"{name} {version}".encode())
        assert put.status == 201, put.body
    return teller


async def played(site: Site, protocol: Protocol, story: list[Step]) -> dict[str, Any]:
    """Plays the story, and returns what the service shows of it."""
    teller, runs = await begin(site), VERSIONS[0]
    rollouts: list[str] = []
    await protocol.runs(teller, runs)
    for step in story:
        match step:
            case "roll out" if len(rollouts) + 1 < len(VERSIONS):
                body = {"model": teller.model, "version": VERSIONS[len(rollouts) + 1]}
                rollouts.append((await teller.operator("rollouts", body))["id"])
            case "pause" | "resume" if rollouts:
                await teller.operator(f"rollouts/{rollouts[-1]}/{step}")
            case "roll back" if runs != VERSIONS[0]:
                back = {"model": teller.model, "bad_version": runs, "reason": "It is bad."}
                await teller.operator("rollbacks", back)
            case "installs" | "fails" | "falls back" | "begins" | "asks":
                runs = await protocol.visit(teller, step, runs) or runs
    return await _shown(teller, rollouts)


async def _shown(teller: Teller, rollouts: list[str]) -> dict[str, Any]:
    device = await teller.shown(f"devices/{teller.device}")
    history = await teller.shown(f"devices/{teller.device}/history")
    found = [await teller.shown(f"rollouts/{each}") for each in rollouts]
    return {
        "runs": (device["version"], device["previous_version"]),
        "failing": device["failing"],
        "history": [(each["version"], each["change"]) for each in history["items"]],
        "counts": [each["progress"] for each in found],
        "states": [each["state"] for each in found],
    }


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Uses one back end; the rules and views of both are the same, and are tested as such."""
    return sqlite_url


@pytest.mark.parametrize("name", OTHERS)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(story=["roll out", "fails", "installs", "roll out", "begins", "pause", "asks", "resume"])
@example(story=["roll out", "falls back", "falls back", "fails", "asks", "installs"])
@example(story=["roll out", "installs", "roll out", "installs", "roll back", "installs", "asks"])
@given(story=st.lists(st.sampled_from(STEPS), min_size=3, max_size=9))
async def test_a_story_means_the_same_in_every_protocol(
    site: Site, name: str, story: list[Step]
) -> None:
    protocol, expected = OTHERS[name], await played(site, NATIVE, story)
    found = await played(site, protocol, story)
    if "falls back" in story and not protocol.has_fallbacks:
        del found["failing"], expected["failing"]
    assert found == expected
