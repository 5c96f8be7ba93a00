"""Tests that no text and no form that a client of Mender sends makes the server fail."""

import asyncio
from base64 import b64encode

import pytest

from tests.service.mender import ONE, device, joined, offered
from tests.service.mender_device import DEPLOYMENTS, INVENTORY, MenderDevice
from tests.service.site import P, Site
from tests.service.steered import roll_out

__all__ = ["device"]

LOGIN = "/api/management/v1/useradm/auth/login"
UPLOADS = "/api/management/v1/deployments/artifacts"
HOSTILE = ["a\\u0000b", "a\\ud800b", "\\udc00", "\\\\ud800", "\\ud83d\\ude00"]


async def test_no_character_of_a_log_makes_a_commit_fail(device: MenderDevice) -> None:
    site = (await joined(device)).site
    await roll_out(site)
    deployment = await offered(device)
    path, sent = (
        f"{DEPLOYMENTS}/{deployment['id']}/log",
        {"Authorization": f"Bearer {device.token}"},
    )
    messages = ",".join(f'{{"level":"e","message":"{text}"}}' for text in HOSTILE)
    body = f'{{"messages":[{messages}]}}'.encode()
    logged, *others = await asyncio.gather(
        site.call("PUT", path, data=body, headers=sent),
        *(
            site.report({"version": f"1.9.{n}"}, caller="operator", path=f"{P}/devices/d2")
            for n in range(9)
        ),
    )
    assert (logged.status, {each.status for each in others}) == (204, {201})
    lines = (await site.get(f"{ONE}/history?progress=true")).json["items"]
    assert any("e a b\ne a b" in (each["detail"] or "") for each in lines)


async def test_no_character_of_an_inventory_is_an_error(device: MenderDevice) -> None:
    sent = {"Authorization": f"Bearer {(await joined(device)).token}"}
    values = ",".join(f'{{"name":"k{n}","value":"{text}"}}' for n, text in enumerate(HOSTILE))
    body = f"[{values}]".encode()
    answer = await device.site.call("PUT", INVENTORY, data=body, headers=sent)
    assert answer.status == 200
    found = (await device.site.get(ONE)).json["attributes"]
    assert (found["k0"], found["k1"], found["k4"]) == ("a b", "a b", "😀")


@pytest.mark.parametrize("login", ["op\0@example.org", "\0", "admin@example.org\0"])
async def test_a_login_with_a_character_that_is_not_stored_is_unauthorized(
    site: Site, login: str
) -> None:
    basic = b64encode(f"{login}:P".encode()).decode()
    answer = await site.call("POST", LOGIN, headers={"Authorization": f"Basic {basic}"})
    assert answer.status == 401


def form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n%b\r\n" % part for part in parts) + b"--x--\r\n"


FORM = "multipart/form-data; boundary=x"
FIELD = b'Content-Disposition: form-data; name="%b"\r\n\r\n%b'
MALFORMED = [
    ("multipart/form-data", form(), 400),
    ("multipart/", form(), 400),
    (f"multipart/form-data; boundary={'y' * 200}", form(), 400),
    ("multipart/form-data; boundary=é", form(), 400),
    (FORM, form(b"X: " + b"y" * 20_000 + b"\r\n\r\n"), 400),
    (FORM, form(b"X: y\r\n" * 5_000 + b"\r\n"), 400),
    (FORM, form(b"no colon\r\n\r\n"), 400),
    (FORM, form(*[FIELD % (b"a", b"b")] * 20_000), 413),
    (FORM, form(FIELD % (b"description", b"a\0b")), 422),
]


@pytest.mark.parametrize(("kind", "body", "status"), MALFORMED)
async def test_a_malformed_upload_is_refused(
    site: Site, kind: str, body: bytes, status: int
) -> None:
    sent = {"Content-Type": kind}
    answer = await site.call("POST", UPLOADS, caller="operator", data=body, headers=sent)
    assert answer.status == status, answer.body
