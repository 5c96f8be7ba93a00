"""Makes devices fail for tests of pages."""

from tests.service.site import D, Site


async def fail(site: Site, path: str = D, detail: str = "no space left") -> None:
    await site.get(f"{path}/update", "gateway")
    body = {"version": "1.1.0", "status": "failed", "detail": detail}
    assert (await site.report(body, caller="operator", path=path)).status == 201
