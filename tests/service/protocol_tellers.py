"""Tells the story of a device in each protocol, as its clients do: what runs, and a visit."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.service.enrolling import let_join
from tests.service.mender_device import DEPLOYMENTS, MenderDevice
from tests.service.site import P, Site
from tests.serving import Answer

type Visitor = Literal["installs", "fails", "falls back", "begins", "asks"]
"""What a device does on a visit."""
type Step = (
    Visitor
    | Literal[
        "roll out", "schedule", "plan", "advance", "await approval", "approve", "pause", "resume",
        "close the window", "open the window", "roll back",
    ]
)  # fmt: skip


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


type Run = Callable[[Teller, str], Awaitable[object]]
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


async def silent_visit(teller: Teller, step: Step, runs: str) -> str | None:
    """Follows the answer without a word, but for the version that runs afterwards."""
    version = await _update(teller)
    if version is None or step != "installs":
        return None
    await native_runs(teller, version)
    await _update(teller)
    return version


async def polling_visit(teller: Teller, step: Step, runs: str) -> str | None:
    """Asks again when the device has restarted."""
    found = await native_visit(teller, step, runs)
    if step in {"installs", "falls back"}:
        await _update(teller)
    return found


async def _update(teller: Teller) -> str | None:
    update = (await teller.send("GET", f"{P}/devices/{teller.device}/update")).json
    version: str | None = update["version"]
    return version


async def _latest(teller: Teller, runs: str) -> str | None:
    """Asks for the latest release, saying what runs."""
    asked = f"device_serial={teller.device}&hardware_version={teller.model}&software_type=main"
    path = f"/api/v0/releases/latest?{asked}&current_version={runs}"
    key = {"Memfault-Project-Key": teller.site.credentials[teller.device]}
    answer = await teller.site.call("GET", path, headers=key)
    assert answer.status in {200, 204}, answer.body
    return str(answer.json["version"]) if answer.body else None


async def _loaded(teller: Teller, runs: str) -> str | None:
    """Loads the one URL of the device, saying what runs; returns the version of the bytes."""
    path = f"{P}/devices/{teller.device}/update/artifact?running={runs}"
    answer = await teller.send("GET", path)
    assert answer.status in {200, 204}, answer.body
    version: str | None = answer.headers.get("Firmtrail-Version")
    return version


async def _polled(teller: Teller, runs: str) -> str | None:
    """Polls as SWUpdate's general server; returns the version whose image it is sent to."""
    path = f"{P}/devices/{teller.device}/swupdate?version={runs}"
    answer = await teller.send("GET", path)
    assert answer.status in {302, 404}, answer.body
    if answer.status == 404:
        return None
    image = urlsplit(answer.headers["Location"])
    loaded = await teller.site.call("GET", f"{image.path}?{image.query}")
    return loaded.body.decode().rpartition(" ")[2]


async def _log(teller: Teller, line: str) -> None:
    path = f"{P}/devices/{teller.device}/swupdate/log"
    put = await teller.site.call("PUT", path, caller=teller.device, data=line)
    assert put.status == 200, put.body


async def swupdate_visit(teller: Teller, step: Step, runs: str) -> str | None:
    version = await _polled(teller, runs)
    if version is None or step == "asks":
        if step in {"installs", "falls back"}:
            await _polled(teller, runs)
        return None
    await _log(teller, "started,")
    if step == "begins":
        return None
    await _log(teller, "fail,worn" if step == "fails" else "success,")
    if step == "fails":
        return None
    await _polled(teller, version if step == "installs" else runs)
    return version if step == "installs" else None


def visit_by(asks: Callable[[Teller, str], Awaitable[str | None]]) -> Visit:
    """Returns the visit of a client that says what it runs when it asks, and no more."""

    async def visit(teller: Teller, step: Step, runs: str) -> str | None:
        version = await asks(teller, runs)
        if version is None or step != "installs":
            return None
        await asks(teller, version)
        return version

    return visit


class Protocol(NamedTuple):
    """Holds how clients of a protocol speak."""

    runs: Run
    visit: Visit
    like: Visit = native_visit
    """The same visit in Firmtrail's own interface, by a client that says no more."""
    has_fallbacks: bool = True
    """Whether a client can fall back without a word of failure. Mender's says that it failed, so
    the device counts as failing until the next install."""

    @property
    def native(self) -> "Protocol":
        """Returns how a client of Firmtrail's own interface tells the same."""
        return Protocol(native_runs, self.like)


OTHERS = {
    "attributes": Protocol(saying_runs, saying_visit),
    "hawkbit": Protocol(ddi_runs, ddi_visit),
    "mender": Protocol(mender_runs, mender_visit, has_fallbacks=False),
    "memfault": Protocol(_latest, visit_by(_latest), like=silent_visit),
    "swupdate": Protocol(_polled, swupdate_visit, like=polling_visit),
    "plain": Protocol(_loaded, visit_by(_loaded), like=silent_visit),
}
