"""Tests that no body of another protocol's client, or of a page, occupies the event loop for long.

A decoder takes long for some numbers, such as 1e300, and a protocol takes members of any type.
"""

from base64 import b64encode
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.service.enrolling import let_join
from tests.service.mender_device import AUTH, DEPLOYMENTS, INVENTORY, MenderDevice, public
from tests.service.site import P, Site
from tests.service.stalls import Made, Sender, array, repeated, without_collections

DDI = "/acme/controller/v1/d1"
FEEDBACK, CANCELLED = f"{DDI}/deploymentBase/1/feedback", f"{DDI}/cancelAction/1/feedback"
CONFIG, SETTINGS = f"{DDI}/configData", "/console/acme/settings"
ATTRIBUTES = f"{P}/devices/d1/attributes"
LOG, STATUS = f"{DEPLOYMENTS}/1/log", f"{DEPLOYMENTS}/1/status"
KEY = Ed25519PrivateKey.generate()

FILLERS = {  # what fills a list of this many bytes
    "long floats": b"1e300",
    "integers": b"1",
    "long integers": b"7" * 4_200,
    "lists": b"[]",
    "texts": b'"a"',
    "halves": b'"\\ud800"',
    "NUL": b'"\\u0000"',
}
BYTES = (60_000, 126_000, 250_000, 1_000_000)


def filled(filler: bytes, size: int) -> bytes:
    return array(filler, size // (len(filler) + 1))


def named(filler: bytes, size: int) -> bytes:
    """Returns an object with as many members as fit."""
    count = size // (len(filler) + 10)
    return b"{" + b",".join(b'"m%06d":%b' % (n, filler) for n in range(count)) + b"}"


def feedback(execution: bytes, members: bytes) -> bytes:
    return b'{"id":"1","status":{"execution":"%b",%b}}' % (execution, members)


def progress(filler: bytes, size: int) -> bytes:
    return feedback(b"proceeding", b'"result":{"progress":%b}' % named(filler, size))


type Filled = Callable[[bytes, int], bytes]

OF_DEVICES: dict[str, tuple[str, str, Filled]] = {  # a name -> the method, the path, the body
    "details": ("POST", FEEDBACK, lambda *of: feedback(b"proceeding", b'"details":' + filled(*of))),
    "details, faulty": ("POST", FEEDBACK, lambda *of: feedback(b"x", b'"details":' + filled(*of))),
    "details of a cancellation": (
        "POST",
        CANCELLED,
        lambda *of: feedback(b"rejected", b'"details":' + filled(*of)),
    ),
    "progress": ("POST", FEEDBACK, progress),
    "a member that is ignored": ("POST", FEEDBACK, named),
    "configData": ("PUT", CONFIG, lambda *of: b'{"data":' + named(*of) + b"}"),
    "configData, faulty": ("PUT", CONFIG, lambda *of: b'{"mode":1,"data":' + named(*of) + b"}"),
    "configData of one list": ("PUT", CONFIG, lambda *of: b'{"data":{"a":' + filled(*of) + b"}}"),
    "attributes": ("PATCH", ATTRIBUTES, lambda *of: b'{"data":' + named(*of) + b"}"),
}
OF_MENDER: dict[str, tuple[str, str, Filled]] = {
    "inventory of one list": (
        "PUT",
        INVENTORY,
        lambda *of: b'[{"name":"a","value":' + filled(*of) + b"}]",
    ),
    "inventory": (
        "PATCH",
        INVENTORY,
        lambda filler, size: filled(b'{"name":"a","value":%b}' % filler, size),
    ),
    "inventory, faulty": ("PUT", INVENTORY, filled),
    "status": ("PUT", STATUS, lambda *of: b'{"status":"installing","a":' + filled(*of) + b"}"),
    "log": (
        "PUT",
        LOG,
        lambda filler, size: (
            b'{"messages":%b}' % filled(b'{"level":"e","message":"a","b":%b}' % filler, size)
        ),
    ),
    "log of other values": ("PUT", LOG, lambda *of: b'{"messages":' + filled(*of) + b"}"),
}


def of_turn(made: Filled, filler: bytes, size: int) -> Made:
    """Returns how a body is made for a turn: with fewer members from turn to turn."""
    return lambda turn: made(filler, size - turn * (len(filler) + 30))


async def send_all(
    sender: Sender, rows: dict[str, tuple[str, str, Filled]], authorization: str, *, size: int
) -> None:
    with without_collections():
        for name, (method, path, made) in rows.items():
            for kind, filler in FILLERS.items():
                name_of_case, body = f"{name} of {kind}, {size}", of_turn(made, filler, size)
                status = await sender.send(
                    name_of_case, method, path, body, Authorization=authorization
                )
                assert status < 500, (name_of_case, status)


@pytest.mark.parametrize("size", BYTES)
async def test_no_body_of_a_device_of_hawkbit_occupies_the_event_loop(
    fleet: Site, size: int
) -> None:
    sender, secret = Sender(fleet), fleet.credentials["device"]
    native = {name: row for name, row in OF_DEVICES.items() if row[1] == ATTRIBUTES}
    foreign = {name: row for name, row in OF_DEVICES.items() if row[1] != ATTRIBUTES}
    await send_all(sender, native, f"Bearer {secret}", size=size)
    await send_all(sender, foreign, f"TargetToken {secret}", size=size)


@pytest.mark.parametrize("size", BYTES)
async def test_no_body_of_a_device_of_mender_occupies_the_event_loop(
    fleet: Site, size: int
) -> None:
    await let_join(fleet, model="m")
    device = MenderDevice(fleet, fleet.credentials["join"])
    assert (await device.authenticate()).status == 200
    await send_all(Sender(fleet), OF_MENDER, f"Bearer {device.token}", size=size)


def asked(identity: bytes, tenant: str) -> bytes:
    fields = {"id_data": identity.decode(), "pubkey": public(KEY), "tenant_token": tenant}
    return msgspec.json.encode(fields)


async def test_no_identity_of_a_stranger_occupies_the_event_loop(fleet: Site) -> None:
    sender, statuses = Sender(fleet), set()
    for tenant in ("acme", ""):
        for kind, filler in FILLERS.items():
            for identity in (named(filler, 28_000), b'{"a":%b}' % filled(filler, 28_000)):
                body = asked(identity, tenant)
                signed = b64encode(KEY.sign(body)).decode()
                name_of_case = f"{kind}, tenant {tenant}"
                statuses.add(
                    await sender.send(
                        name_of_case, "POST", AUTH, repeated(body), X_Men_Signature=signed
                    )
                )
    assert statuses <= {401, 413, 429}


async def test_no_text_of_a_setting_occupies_the_event_loop(fleet: Site) -> None:
    identity, sender = fleet.identity(SETTINGS, "admin"), Sender(fleet)
    form = "application/x-www-form-urlencoded"
    for kind, filler in FILLERS.items():
        for name in ("model_windows", "seen"):
            text = filled(filler, 50_000 if name == "seen" else 16_000).decode()
            body = urlencode({name: text}).encode()
            sent = identity | {"Content_Type": form}
            status = await sender.send(kind, "POST", SETTINGS, repeated(body), **sent)
            assert status < 500, (kind, status)
