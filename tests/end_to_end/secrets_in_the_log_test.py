"""Checks that no output contains a credential, after a bug in every route and an outage."""

import asyncio
import base64
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from aiohttp import ClientSession

from firmtrail.application import routes
from firmtrail.http.callers import LocalAccess, PublicAccess
from tests.contract.migrations import run_outside
from tests.databases import migrate_now
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.site import P, Site, new_site
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

CANARY = "hushhush-canary-0123456789-abcdefghijklmnop"
"""Long enough to be looked up by its digest."""
SHORT = "hushhush"
"""Short enough to be checked by its hash. It is a part of every canary."""
PASSWORD = "hushhush-DBPW"


class Output:
    """Runs a server on a terminal or a pipe, and keeps everything that it wrote."""

    def __init__(self, database: str, *options: str, is_terminal: bool) -> None:
        command = [sys.executable, "-m", "firmtrail", "--database", database]
        command += ["serve", "--port", "0", *options]
        self._source, target = pty.openpty() if is_terminal else os.pipe()
        self._process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=target, stderr=target
        )
        os.close(target)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()  # a pipe or terminal that is full would block the server
        self.url = self._wait_for_url()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal reports so that it is closed
            while chunk := os.read(self._source, 65536):
                self._chunks.append(chunk)

    def text(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", self.text())):
            assert time.monotonic() < deadline and self._process.poll() is None, self.text()
            time.sleep(0.05)
        return found.group()

    def end(self) -> str:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self.text()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._source)


@pytest.fixture(params=["pipe", "terminal"])
def is_terminal(request: pytest.FixtureRequest) -> bool:
    return str(request.param) == "terminal"


@pytest.fixture
async def site(database_url: str) -> Site:
    return await new_site(database_url, ["d1"])


@pytest.fixture
def output(site: Site, *, is_terminal: bool) -> Iterator[Output]:
    options = ["--seed-api", "acme"]
    if site.database.startswith("postgresql"):
        options.append("--no-publishing")
    found = Output(site.database, *options, is_terminal=is_terminal)
    yield found
    found.kill()


def paths() -> Iterator[tuple[str, str]]:
    """Yields every route that takes a credential in its headers, with names in its path."""
    named = {"project": "acme", "device": "d1", "position": "0", "number": "1", "level": "0"}
    named |= {"tile": "000", "model": "m1", "version": "1.0.0", "name": "fw", "sha256": "0" * 64}
    for route in routes.ROUTES:
        if not isinstance(route.access, PublicAccess | LocalAccess):
            found = re.sub(r"{(\w+)}", lambda name: named.get(name.group(1), "x1"), route.path)
            yield route.method.value, found


def credentials() -> Iterator[str]:
    for text in (CANARY, f"ftt_{CANARY}", SHORT):
        yield f"Bearer {text}"
        yield f"Basic {base64.b64encode(f'x:{text}'.encode()).decode()}"


async def send(session: ClientSession, method: str, url: str, **options: object) -> int:
    async with session.request(method, url, allow_redirects=False, **options) as response:  # type: ignore[arg-type] # what aiohttp takes
        await response.read()
        return response.status


async def test_a_bug_in_any_route_shows_no_credential(output: Output, site: Site) -> None:
    await run_outside(
        site.database,
        "ALTER TABLE tokens RENAME COLUMN digest TO digest_elsewhere",
        "ALTER TABLE device_secrets RENAME COLUMN bcrypt TO bcrypt_elsewhere",
        "ALTER TABLE users RENAME COLUMN password_hash TO password_hash_elsewhere",
    )
    async with ClientSession(output.url) as session:
        for method, path in paths():
            statuses = [
                await send(session, method, path, headers={"Authorization": each})
                for each in credentials()
            ]
            assert statuses == [500] * len(statuses), (method, path)
        assert await login_and_seed(session) == [500] * 3
    assert_hushed(output.end(), is_bug=True)


async def login_and_seed(session: ClientSession) -> list[int]:
    login = {"email": f"{SHORT}@example.org", "password": CANARY}
    query = f"email={SHORT}@example.org&device_id=1&secret={CANARY}"
    upload = {"device_id": f"{SHORT}", "secret": CANARY, "version": "1.0.0"}
    return [
        await send(session, "POST", "/api/v1/login", json=login),
        await send(session, "GET", f"/get_firmware_updates_by_device_id?{query}"),
        await send(session, "POST", "/upload_firmware_update", json=upload),
    ]


async def test_a_bug_while_a_secret_is_recorded_shows_none(output: Output, site: Site) -> None:
    await run_outside(site.database, "ALTER TABLE log_heads RENAME COLUMN size TO size_elsewhere")
    bodies: Sequence[tuple[str, str, object]] = (
        ("POST", "/devices", {"device": SHORT, "secret": CANARY}),
        ("POST", "/members", {"email": f"{SHORT}@example.org", "role": "viewer"}),
        ("POST", "/releases", {"version": "1.0.0", "model": "m1", "notes": CANARY}),
    )
    async with ClientSession(output.url) as session:
        for method, path, body in bodies:
            headers = {"Authorization": f"Bearer {site.admin}", "Idempotency-Key": CANARY}
            status = await send(session, method, f"{P}{path}", json=body, headers=headers)
            assert status in {500, 503}, path
    said = output.end()
    assert site.admin not in said
    assert_hushed(said, is_bug=True)


async def test_texts_that_no_database_can_store_are_refused(output: Output) -> None:
    unstorable = ("%00", "a%00b", "\udcff", "%ff", "%ed%a0%80")
    async with ClientSession() as session:
        for text in unstorable:
            wanted = 401 if text.isascii() else 400  # a raw byte is not valid HTTP
            for query in (
                f"email={text}&device_id=1&secret={CANARY}",
                f"email=a@b&device_id={text}&secret={CANARY}",
                f"email=a@b&device_id=1&secret={SHORT}{text}",
            ):
                assert await raw_get(output.url, query) == wanted, query
        for upload in (b"1\\u0000", b"\\ud800", b"1\\udfff"):
            for body in (
                b'{"device_id":"%s","secret":"hushhush","version":"1.0"}' % upload,
                b'{"device_id":"1","secret":"hushhush%s","version":"1.0"}' % upload,
                b'{"device_id":"1","secret":"hushhush","version":"%s"}' % upload,
            ):
                url = f"{output.url}/upload_firmware_update"
                assert await send(session, "POST", url, data=body) == 401, body
    assert_hushed(output.end(), is_bug=False)


async def raw_get(url: str, query: str) -> int:
    """Sends a target as raw bytes, which no URL library would send."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    target = f"/get_firmware_updates_by_device_id?{query}"
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode(errors="surrogateescape"))
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)


def assert_hushed(said: str, *, is_bug: bool) -> None:
    assert SHORT not in said, said[max(0, said.index(SHORT) - 500) :][:1000]
    assert ("bug" in said) == is_bug
    assert '"locals"' not in said and "╭" not in said


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """Starts a Postgres that a test may stop."""
    with PostgresServer() as server:
        yield server


def with_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}://{user or 'postgres'}:{PASSWORD}{at or '@'}{place}"


async def test_an_outage_shows_no_password(
    own_postgres: PostgresServer, *, is_terminal: bool
) -> None:
    url = own_postgres.create_database(f"hush_{time.monotonic_ns()}")
    migrate_now(url)
    options = ("--no-publishing", "--workers", "2")
    output = Output(with_password(url), *options, is_terminal=is_terminal)
    try:
        async with ClientSession(output.url) as session:
            for _ in range(10):  # both workers have started
                assert await send(session, "GET", "/readyz") == 200
            await asyncio.to_thread(own_postgres.stop)
            for _ in range(20):
                await send(session, "GET", "/readyz")
                headers = {"Authorization": f"Bearer {CANARY}"}
                assert await send(session, "GET", "/api/v1/tokens", headers=headers) == 503
                await asyncio.sleep(0.1)
            await asyncio.to_thread(own_postgres.start)
        said = output.end()
    finally:
        output.kill()
    assert "unavailable" in said
    assert SHORT not in said
