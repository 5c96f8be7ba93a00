"""The seed's own requests, answered as it says."""

from typing import Any

import msgspec
import pytest

from tests.service.site import Answer, Site

READ = "/get_firmware_updates_by_device_id?email=diegosalcovsky@gmail.com&device_id=1&secret=ABC"


@pytest.fixture
async def demo(site: Site) -> Site:
    assert (await site.call("GET", "/populate_database")).status == 200
    return site


async def upload(site: Site, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await site.call("POST", "/upload_firmware_update", data=data, headers=headers)


async def versions(site: Site) -> list[str]:
    return [item["version"] for item in (await site.call("GET", READ)).json]


async def test_an_update_is_recorded_once(demo: Site) -> None:
    for _ in range(2):
        answer = await upload(demo, {"device_id": 1, "secret": "AAA", "version": "SemVer1.1"})
        assert (answer.status, answer.body) == (200, b"Successfully updated firmware version")
    updates = (await demo.call("GET", READ)).json
    assert [(item["id"], item["device_id"]) for item in updates] == [(1, 1), (2, 1)]
    assert [item["version"] for item in updates] == ["SemVer1.0", "SemVer1.1"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"device_id": 1, "secret": "AAB", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": 2, "secret": "AAA", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": 1, "secret": "AAA"}, 401, b"Invalid Request"),
        ({"secret": "AAA", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": "1\0", "secret": "AAA", "version": "1.1"}, 401, b"Invalid Request"),
        ({"device_id": 1, "secret": "AAB", "version": "SemVer11"}, 401, b"Invalid Request"),
        (b"not json", 401, b"Invalid Request"),
        (b"\xff", 401, b"Invalid Request"),
        (
            {"device_id": 1, "secret": "AAA", "version": "SemVer11"},
            400,
            b"Version string formatting not valid",
        ),
        (
            {"device_id": 1, "secret": "AAA", "version": 1.1},
            400,
            b"Version string formatting not valid",
        ),
    ],
)
async def test_a_bad_upload_is_told_no_more_than_the_seed_tells(
    demo: Site, body: Any, status: int, text: bytes
) -> None:
    answer = await upload(demo, body)
    assert (answer.status, answer.body) == (status, text)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert await versions(demo) == ["SemVer1.0"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("secret=ABC", "secret=ABE"), ("device_id=1", "device_id=2"), ("diego", "diega")],
)
async def test_any_wrong_part_reads_nothing(demo: Site, right: str, wrong: str) -> None:
    answer = await demo.call("GET", READ.replace(right, wrong))
    assert (answer.status, answer.body) == (401, b"Invalid request")
    assert "WWW-Authenticate" in answer.headers


async def test_populating_again_starts_a_new_log_and_cuts_no_old_one(demo: Site) -> None:
    await upload(demo, {"device_id": "1", "secret": "AAA", "version": "1.2.3"})
    assert await versions(demo) == ["SemVer1.0", "1.2.3"]
    assert (await demo.call("GET", "/populate_database")).status == 200
    assert await versions(demo) == ["SemVer1.0"]
    again = await upload(demo, {"device_id": 1, "secret": "AAA", "version": "2.0.0-rc.1"})
    assert again.status == 200
