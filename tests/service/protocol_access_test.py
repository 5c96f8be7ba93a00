"""Tests that each route of each protocol opens to the right credential, in the form that clients of
the protocol send it, and to no other one.

`access_matrix_test.py` does so for Firmtrail's own interface, whose forms of credentials some
protocols do not read.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from firmtrail.commands import access as commands
from firmtrail.http.callers import DeviceAccess, MemberAccess, Permission
from firmtrail.http.route import Route
from firmtrail.protocols import ROUTES
from tests.fleet import register
from tests.people import add_member, add_secret, issue_token
from tests.service.mender_device import MenderDevice
from tests.service.routes import needs_a_key, path_of
from tests.service.site import P, Site
from tests.serving import Answer

pytestmark = pytest.mark.one_back_end  # tests/contract/access_lookup_test.py covers the lookups

type Form = Callable[[str], Mapping[str, str]]
"""Returns the headers that carry a credential."""


def bearer(credential: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {credential}"}


FORMS: Mapping[str, tuple[Form, ...]] = {
    "hawkbit": (
        lambda text: {"Authorization": f"TargetToken {text}"},
        lambda text: {"Authorization": f"GatewayToken {text}"},
    ),
    "memfault": (bearer, lambda text: {"Memfault-Project-Key": text}),
    "mender": (bearer,),
    "plain": (bearer,),
}
DEVICES = [
    (protocol, route)
    for protocol, routes in ROUTES.items()
    for route in routes
    if isinstance(route.access, DeviceAccess) and not needs_a_key(route)
]
KEYED = [route for routes in ROUTES.values() for route in routes if needs_a_key(route)]
MEMBERS = [
    route
    for routes in ROUTES.values()
    for route in routes
    if isinstance(route.access, MemberAccess)
]


class Tried(NamedTuple):
    """Describes a request: the place that it names, and the credential that it carries."""

    credential: str
    project: str = "acme"
    device: str = "d1"

    @property
    def is_of_another_project(self) -> bool:
        return self.project != "acme" or self.credential in {"elsewhere", "other gateway"}

    @property
    def refusal(self) -> int:
        """Returns the status that refuses it. A token that is valid in another project gets the
        same 404 whether the project exists or not."""
        is_token = self.credential.endswith("gateway")
        return 404 if is_token and self.is_of_another_project else 401


RIGHT = (Tried("device"), Tried("gateway"), Tried("gateway", device="d2"))
WRONG = (
    Tried("nobody"),
    Tried("wrong"),
    Tried("d2"),
    Tried("ended"),
    Tried("elsewhere"),
    Tried("other gateway"),
    Tried("revoked"),
    Tried("device", device="d2"),
    Tried("device", device="d9"),
    Tried("device", device="..%2Fd1"),
    Tried("device", project="other"),
    Tried("gateway", project="other"),
    Tried("gateway", project="other", device="there"),
    Tried("gateway", project="nowhere"),
)


@pytest.fixture
async def crowd(site: Site) -> Site:
    """Adds credentials of other devices and projects to the site, and some that are not valid."""
    db, access, recorder = site.services.db, site.services.access, site.services.recorder
    other = await access.project("other")
    assert other is not None
    await register(recorder, other, "there", "d1")
    more = {
        "nobody": "",
        "wrong": "fts_" + "x" * 43,
        "d2": await add_secret(db, access, "acme", "d2"),
        "elsewhere": await add_secret(db, access, "other", "d1"),
        "ended": await _ended_secret(site),
        "other gateway": await _gateway_of(site, other),
        "revoked": await _revoked_gateway(site),
    }
    site.credentials.update(more)
    return site


async def _ended_secret(site: Site) -> str:
    await register(site.services.recorder, site.log_id, "gone")
    secret = await add_secret(site.services.db, site.services.access, "acme", "gone")
    ended = await site.call(
        "PATCH", f"{P}/devices/gone", caller="operator", json={"decommissioned": True}
    )
    assert ended.status == 200, ended.body
    return secret


async def _gateway_of(site: Site, log_id: int) -> str:
    person = await add_member(site.services.recorder, log_id, "there@example.org", "operator")
    return (await issue_token(site.services.recorder, log_id, person, "gateway")).text


async def _revoked_gateway(site: Site) -> str:
    recorder = site.services.recorder
    person = await add_member(recorder, site.log_id, "left@example.org", "operator")
    issued = await issue_token(recorder, site.log_id, person, "gateway")
    await recorder.act(site.log_id, commands.revoke_token(issued.token.token_id, actor="system"))
    return issued.text


async def ask(site: Site, route: Route, form: Form, tried: Tried) -> Answer:
    names = {"project": tried.project, "tenant": tried.project, "device": tried.device}
    path = path_of(route, **names)
    if "{device}" not in route.path:
        path += f"?device_serial={tried.device}&hardware_version=m&software_type=s"
    text = site.credentials[tried.credential]
    headers = dict(form(text)) if text else {}
    body = None if route.method == "GET" else b"{}"
    return await site.call(route.method, path, data=body, headers=headers)


@pytest.mark.parametrize("tried", WRONG, ids=str)
async def test_a_wrong_credential_opens_no_route_of_a_device(crowd: Site, tried: Tried) -> None:
    before = (await crowd.get(f"{P}/events")).body
    faces = set()
    for protocol, route in DEVICES:
        if tried.is_of_another_project and not {"{project}", "{tenant}"} & _names(route):
            continue  # the credential names the project
        for form in FORMS[protocol]:
            answer = await ask(crowd, route, form, tried)
            assert answer.status == tried.refusal, (route.path, tried)
            faces.add(answer.json["detail"])
    assert len(faces) == 1, faces
    assert (await crowd.get(f"{P}/events")).body == before


def _names(route: Route) -> set[str]:
    return {part for part in route.path.split("/") if part.startswith("{")}


@pytest.mark.parametrize("tried", RIGHT, ids=str)
async def test_the_right_credential_opens_each_route_of_a_device(crowd: Site, tried: Tried) -> None:
    for protocol, route in DEVICES:
        for form in FORMS[protocol]:
            answer = await ask(crowd, route, form, tried)
            assert answer.status not in {401, 403, 500}, (route.path, answer.body)


async def test_only_the_token_for_a_devices_own_key_opens_menders_routes(crowd: Site) -> None:
    assert KEYED
    for route in KEYED:
        for credential in ("nobody", "wrong", "device", "gateway", "admin", "other gateway"):
            answer = await ask(crowd, route, bearer, Tried(credential))
            assert answer.status == 401, (route.path, credential)


async def test_the_token_of_a_device_in_another_project_opens_only_that_project(
    crowd: Site,
) -> None:
    there = MenderDevice(crowd, crowd.credentials["other gateway"], "there")
    assert (await there.authenticate()).status == 200
    assert (await there.next()).status == 204
    assert (await there.status("offer-000000001", "downloading")) == 404
    assert (await crowd.get(f"{P}/devices/there")).status == 404


@pytest.mark.parametrize(
    ("credential", "refusals"),
    [
        ("nobody", {401}),
        ("wrong", {401}),
        ("device", {401, 403}),
        ("gateway", {403}),
        ("stranger", {403, 404}),
        ("other gateway", {403, 404}),
        ("revoked", {401}),
    ],
)
async def test_no_other_caller_publishes_or_reads_as_a_member(
    crowd: Site, credential: str, refusals: set[int]
) -> None:
    before = (await crowd.get(f"{P}/events")).body
    for route in MEMBERS:
        if credential == "stranger" and "{project}" not in route.path:
            continue  # an admin of another project, which the token names
        answer = await ask(crowd, route, bearer, Tried(credential))
        assert answer.status in refusals, (route.path, credential, answer.body)
    assert (await crowd.get(f"{P}/events")).body == before


async def test_a_viewer_publishes_nothing(crowd: Site) -> None:
    for route in MEMBERS:
        answer = await ask(crowd, route, bearer, Tried("viewer"))
        access: Any = route.access
        may = access.permission == Permission.READ
        assert (answer.status == 403) != may, (route.path, answer.body)
