"""Tests which caller gets which answer: the interface's "Which answer", case by case."""

from base64 import b64encode
from typing import Any

import pytest

from firmtrail.access import hashing
from firmtrail.access.device_secrets import revoke_secrets
from firmtrail.access.roles import PERMISSIONS, ROLES, Role
from firmtrail.http.callers import DeviceAccess, GatewayAccess
from tests.fleet import register
from tests.people import add_member, add_secret
from tests.service.routes import ROUTES as ROUTE_TABLE
from tests.service.routes import path_of
from tests.service.site import D, P, Site

pytestmark = pytest.mark.one_back_end  # tests/contract/access_lookup_test.py covers the lookups

REPORT = {"version": "1.4.0"}
D2, UNKNOWN = f"{P}/devices/d2", f"{P}/devices/d9"
NOWHERE = "/api/v1/projects/nowhere"

ROUTES = (
    ("report", "POST", "/devices/d1/reports", REPORT),
    ("report", "POST", "/reports", {"device": "d1", **REPORT}),
    ("read", "GET", "", None),
    ("read", "GET", "/members", None),
    ("read", "GET", "/devices", None),
    ("report", "GET", "/devices/d1/update", None),
    ("read", "GET", "/devices/d1/explain", None),
    ("read", "GET", "/rollouts", None),
    ("operate", "POST", "/devices", {"device": "new"}),
    ("operate", "POST", "/devices/d1/retry", {"version": "1.0.0"}),
    ("read", "GET", "/releases", None),
    ("operate", "POST", "/releases", {"version": "1.0.0", "model": "m"}),
    ("audit", "GET", "/events", None),
    ("audit", "GET", "/log/key", None),
    ("audit", "GET", "/log/checkpoints", None),
    ("audit", "GET", "/log/tile/0/000.p/1", None),
    ("audit", "GET", "/logs/1/tile/entries/000.p/1", None),
    ("audit", "GET", "/log/consistency?from=1&to=2", None),
    ("audit", "GET", "/events/0", None),
    ("audit", "GET", "/logs", None),
    ("audit", "GET", "/logs/1/events", None),
    ("audit", "GET", "/logs/1/events/0", None),
    ("audit", "HEAD", "/stream", None),
    ("audit", "GET", "/access-record", None),
    ("administer", "GET", "/tokens", None),
    ("administer", "PATCH", "", {"max_attempts": 4}),
    ("administer", "POST", "/members", {"email": "new@example.org", "role": "viewer"}),
)


@pytest.fixture
async def devices(site: Site) -> Site:
    """Adds the weak secret "AAA" of d2, and several wrong credentials, to the site."""
    services = site.services
    site.credentials["weak"] = "AAA"
    await add_secret(services.db, services.access, "acme", "d2", text="AAA")
    other_log_id = await services.access.project("other")
    assert other_log_id is not None
    await register(services.recorder, other_log_id, "there")
    site.credentials["wrong"] = "fts_" + "x" * 43
    site.credentials["wrong weak"] = "wrong"
    site.credentials["wrong token"] = "ftt_" + "x" * 43
    return site


async def status(site: Site, method: str, path: str, caller: str | None, body: Any = None) -> int:
    return (await site.call(method, path, caller=caller, json=body)).status


@pytest.mark.parametrize(
    ("path", "caller", "expected"),
    [
        (D, "device", 201),
        (D2, "weak", 201),
        (D, None, 401),
        (D, "wrong", 401),
        (D, "wrong weak", 401),
        (D2, "wrong", 401),
        (D2, "wrong weak", 401),
        (D, "weak", 401),
        (UNKNOWN, "wrong", 401),
        (UNKNOWN, "wrong weak", 401),
        (UNKNOWN, "weak", 401),
        (UNKNOWN, "device", 401),
        (D2, "device", 401),
        (f"{P}/devices/bad name!", "device", 401),
        ("/api/v1/projects/other/devices/d1", "device", 401),
        ("/api/v1/projects/other/devices/there", "device", 401),
        (f"{NOWHERE}/devices/d1", "device", 401),
        (UNKNOWN, "operator", 404),
    ],
)
async def test_a_devices_path_admits_only_its_own_secret_and_members(
    devices: Site, path: str, caller: str | None, expected: int
) -> None:
    assert await status(devices, "POST", f"{path}/reports", caller, REPORT) == expected


@pytest.mark.parametrize(
    ("caller", "path"),
    [
        ("device", D),
        ("device", f"{D}/history"),
        ("device", D2),
        ("device", f"{P}/devices"),
        ("device", "/api/v1/projects"),
        ("weak", D2),
        ("weak", f"{D2}/history"),
    ],
)
async def test_a_devices_secret_opens_no_route_of_users(
    devices: Site, caller: str, path: str
) -> None:
    assert await status(devices, "GET", path, caller) == 403


DEVICE_ROUTES = [
    route for route in ROUTE_TABLE if isinstance(route.access, DeviceAccess | GatewayAccess)
]


async def test_a_devices_secret_is_wrong_on_every_path_of_devices_but_its_own(
    devices: Site,
) -> None:
    places = [(project, device) for project in ("acme", "other") for device in ("d9", "there")]
    for route in DEVICE_ROUTES:
        for project, device in (*places, ("acme", "d2"), ("nowhere", "d1")):
            names = {"project": project, "device": device}
            path = path_of(route, **names)
            if device == "d1" and "{project}" not in route.path:
                continue  # the credential names the project, so this is the device itself
            asked = await devices.call(route.method, path, caller="device", data=b"no json")
            assert asked.status == 401, path


async def test_a_revoked_secret_is_refused_immediately(devices: Site) -> None:
    for path, caller in ((D, "device"), (D2, "weak")):
        assert await status(devices, "POST", f"{path}/reports", caller, REPORT) == 201
        async with devices.services.db.transaction() as tx:
            await tx.run(revoke_secrets("acme", path.rpartition("/")[2]))
        assert await status(devices, "POST", f"{path}/reports", caller, REPORT) == 401


async def test_all_401_answers_are_the_same(devices: Site) -> None:
    faces = set()
    elsewhere = "/api/v1/projects/other/devices"
    others = (D2, UNKNOWN, f"{elsewhere}/d1", f"{elsewhere}/there", f"{NOWHERE}/devices/d1")
    calls = [
        (path, caller)
        for path in (D, *others)
        for caller in (None, "wrong", "wrong weak", "wrong token", "device")
        if (path, caller) != (D, "device")
    ]
    for path, caller in calls:
        answer = await devices.call("POST", f"{path}/reports", caller=caller, json=REPORT)
        request_id = answer.json["request_id"]
        headers = sorted(pair for pair in answer.headers.items() if pair[0] != "Date")
        shown = f"{headers}{answer.body.decode()}"
        faces.add((answer.status, shown.replace(request_id, "")))
    assert [status for status, _ in faces] == [401]


async def test_the_same_weak_text_costs_the_same_work_whatever_is_wrong(
    devices: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []
    original = hashing.matches

    def counting(text: str, hashed: str) -> bool:
        work.append(hashed[:7])
        return original(text, hashed)

    monkeypatch.setattr(hashing, "matches", counting)
    for path in (D, D2, UNKNOWN, f"{NOWHERE}/devices/d1"):
        assert await status(devices, "POST", f"{path}/reports", "wrong weak", REPORT) == 401
    assert work == ["$2b$04$"] * 4


@pytest.mark.parametrize("path", [D2, UNKNOWN])
async def test_after_twenty_wrong_weak_texts_a_caller_must_wait(devices: Site, path: str) -> None:
    answers = [
        await devices.call("POST", f"{path}/reports", caller="wrong weak", json=REPORT)
        for _ in range(22)
    ]
    assert [answer.status for answer in answers] == [401] * 20 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "60"
    assert await status(devices, "POST", f"{D}/reports", "device", REPORT) == 201


@pytest.mark.parametrize("name", [b"", b"anyone", "ä".encode(), b"\xff"])
async def test_basic_carries_the_credential_as_its_password(devices: Site, name: bytes) -> None:
    basic = b64encode(name + b":" + devices.credentials["device"].encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    assert (await devices.call("POST", f"{D}/reports", json=REPORT, headers=headers)).status == 201


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic !", "Basic eA==", "Digest x", "x"])
async def test_a_header_without_a_credential_gets_401(site: Site, header: str) -> None:
    answer = await site.call("GET", "/api/v1/projects", headers={"Authorization": header})
    assert answer.status == 401


@pytest.mark.parametrize("role", ROLES)
async def test_a_route_opens_to_the_roles_that_hold_its_permission(site: Site, role: Role) -> None:
    for permission, method, path, body in ROUTES:
        answered = await status(site, method, P + path, role, body)
        allowed = permission in PERMISSIONS[role]
        assert answered in ({200, 201} if allowed else {403}), (method, path)


@pytest.mark.parametrize("project", [P, NOWHERE])
async def test_a_stranger_gets_404_for_every_project(site: Site, project: str) -> None:
    for _, method, path, body in ROUTES:
        assert await status(site, method, project + path, "stranger", body) == 404, path


async def test_a_token_is_valid_in_its_own_project_only(site: Site) -> None:
    other = await site.services.access.project("other")
    assert other is not None
    await add_member(site.services.recorder, other, "admin@example.org", "admin")
    assert await status(site, "GET", P, "admin") == 200
    assert await status(site, "GET", "/api/v1/projects/other", "admin") == 404


@pytest.mark.parametrize(
    "path",
    [
        "/local/erasures",
        "/local/projects/acme/users",
        "/local/projects/acme/tokens",
        "/local/projects/acme/rebuild",
        "/local/projects/acme/access-record",
    ],
)
async def test_local_routes_exist_only_on_the_socket(site: Site, path: str) -> None:
    body = {"email": "admin@example.org"}
    for caller in (None, "admin", "device"):
        assert await status(site, "POST", path, caller, body) == 404
