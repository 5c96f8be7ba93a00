"""Several processes on one Postgres, as gunicorn runs them."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.databases import migrate_now
from tests.end_to_end.command import new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server, children
from tests.postgres_server import PostgresServer

WORKERS = 2
SECONDS_MAX = 30


@pytest.fixture
def server(serve: Serve, postgres: PostgresServer) -> Iterator[Server]:
    url = postgres.create_database(f"workers_{time.monotonic_ns()}")
    migrate_now(url)
    new_project(url)
    server = serve(url, "--workers", str(WORKERS))
    wait_until(lambda: len(children(server.pid)) == WORKERS)
    yield server
    if server.is_running:
        server.send(signal.SIGTERM)
        server.exit_code()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 (our own)
        return str(response.read().decode())


def requests_counted(server: Server) -> float:
    lines = read(f"{server.url}/metrics").splitlines()
    name = "firmtrail_http_request_duration_seconds_count{"
    found = [line for line in lines if line.startswith(name) and 'route="/healthz"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_all_workers_are_counted_together(server: Server) -> None:
    before = requests_counted(server)
    for _ in range(20):
        read(f"{server.url}/healthz")
    assert requests_counted(server) == before + 20


def test_a_worker_that_dies_is_replaced(server: Server) -> None:
    first = children(server.pid)[0]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in (now := children(server.pid)) and len(now) == WORKERS)
    assert read(f"{server.url}/readyz") == '{"status":"ready"}'


def test_a_signal_ends_all_with_0(server: Server) -> None:
    workers = children(server.pid)
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
