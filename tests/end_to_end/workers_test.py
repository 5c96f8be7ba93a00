"""Checks several processes on one database, as gunicorn runs them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT, Server, children, serving_workers, workers
from tests.end_to_end.waiting import wait_until
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

WORKERS = 2


@pytest.fixture
def server(serve: Serve, database_url: str) -> Iterator[Server]:
    server = serve(database_url, "--workers", str(WORKERS))
    wait_until(lambda: len(serving_workers(server.pid)) == WORKERS)
    yield server
    stop(server)


def is_gone(server: Server, worker: int) -> bool:
    return worker not in workers(server.pid)


def is_replaced(server: Server, worker: int) -> bool:
    return worker not in (now := workers(server.pid)) and len(now) == WORKERS


def stop(server: Server) -> None:
    if server.is_running:
        server.send(signal.SIGTERM)
        server.exit_code()


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
    first = workers(server.pid)[0]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in (now := workers(server.pid)) and len(now) == WORKERS)
    assert read(f"{server.url}/readyz") == '{"status":"ready"}'


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_that_still_starts_loses_no_signal(tmp_path: Path, moment: str) -> None:
    """The worker has no handlers of its own yet, or no event loop that runs them."""
    starting = tmp_path / moment
    starting.touch()
    database = f"sqlite:///{tmp_path / 'firmtrail.db'}"
    command = ["--database", database, "serve", "--workers", "2", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.slow_workers", *command],
        env=ENVIRONMENT | {"FIRMTRAIL_TEST_STARTING": str(starting), "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        wait_until(lambda: starting.read_text().endswith("\n"))
        worker = int(starting.read_text().split()[0])
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: worker not in workers(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 (our own)
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def assert_well(server: Server) -> None:
    """Checks that every worker answers on every connection."""
    for _ in range(20):
        assert read(f"{server.url}/healthz") == '{"status":"alive"}'
        assert status(f"{server.url}/readyz") == 200
        assert "\nfirmtrail_ready 1.0" in read(f"{server.url}/metrics")
    assert server.is_running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT])
def test_a_worker_that_a_signal_ends_is_replaced_alone(
    server: Server, number: signal.Signals
) -> None:
    for _ in range(2):
        wait_until(lambda: len(serving_workers(server.pid)) == WORKERS)
        first = serving_workers(server.pid)[0]
        os.kill(first, number)
        wait_until(partial(is_replaced, server, first))
    wait_until(lambda: status(f"{server.url}/readyz") == 200)
    assert_well(server)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH])
def test_an_ignored_signal_ends_nothing(server: Server, number: signal.Signals) -> None:
    before = workers(server.pid)
    for pid in (server.pid, *children(server.pid)):
        if (
            pid == server.pid or number is not signal.SIGUSR2
        ):  # with which the master makes workers drain
            os.kill(pid, number)
    time.sleep(1)
    assert workers(server.pid) == before
    assert_well(server)


def test_workers_are_added_and_removed(server: Server) -> None:
    server.send(signal.SIGTTIN)
    wait_until(lambda: len(workers(server.pid)) == WORKERS + 1)
    server.send(signal.SIGTTOU)
    wait_until(lambda: len(workers(server.pid)) == WORKERS)
    assert_well(server)


def test_quit_ends_all_without_waiting_for_requests(server: Server) -> None:
    assert_well(server)  # a worker that is starting takes no signal yet
    began = time.monotonic()
    server.send(signal.SIGQUIT)
    assert server.exit_code() == 0
    assert time.monotonic() - began < 15
    assert server.said("stopping")[-1]["signal"] == "SIGQUIT"


def test_a_worker_that_starts_without_postgres_waits_for_it(serve: Serve) -> None:
    with PostgresServer() as postgres:
        url = postgres.create_database("away")
        migrate_now(url)
        server = serve(url, "--workers", str(WORKERS))
        wait_until(lambda: len(serving_workers(server.pid)) == WORKERS)
        wait_until(lambda: status(f"{server.url}/readyz") == 200)
        postgres.stop()
        for number in (signal.SIGKILL, signal.SIGTERM):
            first = workers(server.pid)[0]
            os.kill(first, number)
            wait_until(partial(is_gone, server, first))
        time.sleep(3)
        wait_until(lambda: len(workers(server.pid)) == WORKERS)
        waiting = workers(server.pid)
        assert server.is_running
        assert len(server.said("a worker waits to start")) <= WORKERS
        postgres.start()
        wait_until(lambda: status(f"{server.url}/readyz") == 200)
        assert workers(server.pid) == waiting
        assert_well(server)
        stop(server)


def test_readiness_is_computed_for_the_scrape(server: Server, database_url: str) -> None:
    """Reads readiness although nobody called /readyz; dead workers and the master do not count."""
    for _ in range(10):
        text = read(f"{server.url}/metrics")
        assert text.count("\nfirmtrail_ready 1.0") == 1
        assert "\nfirmtrail_refused_logs 0.0" in text
        assert f"\nfirmtrail_publishing {float(database_url.startswith('sqlite'))}" in text


def test_workers_serve_during_the_drain_delay_while_readyz_fails(
    serve: Serve, database_url: str
) -> None:
    server = serve(database_url, "--workers", str(WORKERS), "--drain-delay", "30")
    wait_until(lambda: len(workers(server.pid)) == WORKERS)
    began = time.monotonic()
    server.send(signal.SIGTERM)
    wait_until(lambda: {status(f"{server.url}/readyz") for _ in range(10)} == {503})
    for _ in range(10):
        assert status(f"{server.url}/healthz") == 200
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert time.monotonic() - began < 25


def test_a_worker_that_is_starting_drains_too(serve: Serve, database_url: str) -> None:
    server = serve(database_url, "--workers", str(WORKERS), "--drain-delay", "30")
    wait_until(lambda: len(workers(server.pid)) == WORKERS)
    killed = workers(server.pid)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: is_replaced(server, killed))
    server.send(signal.SIGTERM)
    wait_until(lambda: {status(f"{server.url}/readyz") for _ in range(10)} == {503})
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


def test_a_signal_ends_all_with_0(server: Server) -> None:
    before = workers(server.pid)
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before))
