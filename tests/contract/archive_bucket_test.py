"""Keeps an archive in a bucket: what only a bucket can do, or can do wrong."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from firmtrail.archive.stores import ArchiveRefused, BucketStore
from tests.s3 import BUCKET

pytestmark = pytest.mark.usefixtures("s3_client")


@pytest.mark.parametrize("honoured", [(), ("If-None-Match",), ("If-Match",)])
async def test_a_bucket_that_ignores_a_condition_is_refused(
    honoured: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket takes each put, unless a condition that it honours does not hold."""
    puts = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal puts
        puts += 1
        is_refused = puts > 1 and any(each in request.headers for each in honoured)
        return web.Response(status=412 if is_refused else 200, headers={"ETag": '"1"'})

    app = web.Application()
    app.router.add_route("PUT", "/{path:.*}", answer)
    async with TestServer(app) as careless:
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(careless.make_url("/")))
        with pytest.raises(ArchiveRefused, match="ignores If-None-Match or If-Match"):
            await BucketStore.at(f"s3://{BUCKET}/archive").check()


async def test_a_bucket_that_honours_both_conditions_is_taken() -> None:
    bucket = BucketStore.at(f"s3://{BUCKET}/archive")
    await bucket.check()
    await bucket.check()


async def test_a_bucket_lists_the_folders_of_a_folder() -> None:
    bucket = BucketStore.at(f"s3://{BUCKET}/archive")
    await bucket.add("a/b/c", b"one")
    assert await bucket.folders("") == ["a"]
    assert await bucket.folders("a") == ["b"]
    assert await bucket.folders("none") == []
