"""Lets devices wait until they are sent back from a bad version."""

from collections.abc import Iterable
from time import monotonic
from typing import Any

from aiohttp import ClientSession

from tests.end_to_end.site import MODEL, P, Site, get, post

HEARD_S_MAX = 1.0
"""How soon a waiting device learns of an order, on any server."""


async def hear(session: ClientSession, device: str, site: Site, name: str) -> float:
    """Checks in, waits for another answer, and returns when it arrived."""
    url, secret = f"{device}/update", site.secrets[name]
    etag = (await get(session, url, secret)).headers["ETag"]
    headers = {"Authorization": f"Bearer {secret}", "If-None-Match": etag}
    async with session.get(f"{url}?wait=50", headers=headers) as response:
        said = await response.json()
        heard_at = monotonic()
    assert (said["action"], said["version"]) == ("rollback", "1.0.0"), said
    return heard_at


async def run_bad_version(
    session: ClientSession, url: str, site: Site, names: Iterable[str]
) -> None:
    """Makes every device run 1.1.0 after 1.0.0, both releases."""
    for version in ("1.0.0", "1.1.0"):
        release = {"model": MODEL, "version": version}
        assert (await post(session, f"{url}{P}/releases", site.admin, release)).status == 201
        reports: list[dict[str, Any]] = [{"device": name, "version": version} for name in names]
        for start in range(0, len(reports), 500):
            some = reports[start : start + 500]
            assert (await post(session, f"{url}{P}/reports", site.gateway, some)).status == 201
