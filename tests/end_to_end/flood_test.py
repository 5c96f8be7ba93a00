"""Floods real processes that have few descriptors with connections that send no request."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import migrate_now
from tests.end_to_end.command import firmtrail
from tests.end_to_end.processes import Server
from tests.postgres_server import PostgresServer

DESCRIPTORS = 1024
CONNECTIONS = 1200
HALF_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
ANSWERED_S = 15


class Limited(Server):
    """Runs a server with a low hard limit of descriptors and a lower soft limit."""

    _through = ("prlimit", f"--nofile=256:{DESCRIPTORS}", "--")


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Limited]:
    database = f"sqlite:///{tmp_path / 'f.db'}"
    with Limited(database, tmp_path / "log") as server:
        yield server
    assert server.tracebacks() == []


@pytest.fixture
def embedded_workers(tmp_path: Path) -> Iterator[Limited]:
    database = f"sqlite:///{tmp_path / 'f.db'}"
    with Limited(database, tmp_path / "log", "--workers", "2") as server:
        yield server
    assert server.tracebacks() == []


@pytest.fixture
def workers(postgres: PostgresServer, tmp_path: Path) -> Iterator[Limited]:
    url = postgres.create_database(f"flood_{time.monotonic_ns()}")
    migrate_now(url)
    with Limited(url, tmp_path / "log", "--workers", "2") as server:
        yield server
    assert server.tracebacks() == []


def flood(server: Server, stack: ExitStack, *, first: bytes) -> None:
    host, _, port = server.url.partition("//")[2].partition(":")
    for _ in range(CONNECTIONS):
        connection = stack.enter_context(socket.create_connection((host, int(port)), 10))
        try:
            connection.send(first)
        except ConnectionError:
            continue


def is_alive(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.url}/healthz", timeout=ANSWERED_S) as answer:  # noqa: S310 (our own)
        return bool(answer.status == 200)


def metrics(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=ANSWERED_S) as answer:  # noqa: S310 (our own)
        lines = answer.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


@pytest.mark.parametrize("first", [b"", HALF_HEAD], ids=["silent", "half heads"])
@pytest.mark.parametrize("kind", ["embedded", "embedded_workers", "workers"])
def test_a_flood_keeps_nobody_out(request: pytest.FixtureRequest, kind: str, first: bytes) -> None:
    server: Limited = request.getfixturevalue(kind)
    with ExitStack() as stack:
        flood(server, stack, first=first)
        assert is_alive(server)
        counted = metrics(server)
        assert counted["firmtrail_descriptors_max"] in {DESCRIPTORS, 2 * DESCRIPTORS}
        assert counted["firmtrail_connections"] <= counted["firmtrail_connections_max"]
        assert counted["firmtrail_connections_max"] < counted["firmtrail_descriptors_max"]
    assert len(server.said("connections refused")) in {1, 2}


def test_the_operators_commands_work_in_a_flood(embedded: Limited, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'f.db'}"
    with ExitStack() as stack:
        flood(embedded, stack, first=HALF_HEAD)
        assert firmtrail(database, "project", "add", "acme").exit_code == 0
        rows = firmtrail(database, "doctor", "--json").json
    found = {row["check"]: row["found"] for row in rows}
    assert f"of {DESCRIPTORS} descriptors" in found["connections"]


def test_tls_of_workers_is_served_and_bounded(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create_database(f"tls_{time.monotonic_ns()}")
    migrate_now(url)
    crt, key = str(tmp_path / "crt"), str(tmp_path / "key")
    curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    command = ["openssl", "req", "-x509", "-newkey", *curve, "-nodes", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", key, "-out", crt], check=True)
    options = ("--workers", "2", "--tls-cert", crt, "--tls-key", key)
    with Limited(url, tmp_path / "log", *options) as server, ExitStack() as stack:
        assert server.url.startswith("https://")
        flood(server, stack, first=b"\x16\x03\x01")
        read = ["curl", "-sk", "--max-time", str(ANSWERED_S), f"{server.url}/healthz"]
        assert b"alive" in subprocess.run(read, capture_output=True, check=True).stdout
        assert server.tracebacks() == []
