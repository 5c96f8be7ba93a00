"""Checks what signals do to a server with one process and with several."""

import contextlib
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.databases import migrate_now, sqlite_template
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server, children, serving_workers, workers
from tests.end_to_end.waiting import wait_until
from tests.postgres_server import PostgresServer

OPENSSL = shutil.which("openssl") or "openssl"
WORKERS = 2
MANY = ("--workers", str(WORKERS))


class Case(NamedTuple):
    """Holds a database, and the options for one process or several."""

    database: str
    options: tuple[str, ...]


@pytest.fixture(params=["one process", "workers on a file", "workers on Postgres"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param != "workers on Postgres":
        return Case(embedded(tmp_path), () if request.param == "one process" else MANY)
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create_database(f"signals_{time.monotonic_ns()}")
    migrate_now(url)
    return Case(url, MANY)


def embedded(folder: Path) -> str:
    (folder / "firmtrail.db").write_bytes(sqlite_template())
    return f"sqlite:///{folder}/firmtrail.db"


def start(serve: Serve, case: Case, *options: str) -> Server:
    server = serve(case.database, *case.options, *options)
    if case.options:
        wait_until(lambda: len(serving_workers(server.pid)) == WORKERS)
    wait_until(lambda: status(server) == 200)
    return server


def status(server: Server, path: str = "/readyz") -> int:
    """Returns the status of an answer, 0 if no server accepts."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(f"{server.url}{path}", timeout=5, context=context) as answer:  # noqa: S310 (our own)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ssl.SSLError):
        return 0


def certify(name: str, certificate: Path, key: Path) -> None:
    made = subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr


def served_certificates(server: Server) -> set[str]:
    """Returns what several new connections are shown: each may reach another worker."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None and parts.port is not None
    return {ssl.get_server_certificate((parts.hostname, parts.port)).strip() for _ in range(10)}


def test_hangup_reads_the_certificate_again(serve: Serve, case: Case, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certify("one", certificate, key)
    server = start(serve, case, "--tls-cert", str(certificate), "--tls-key", str(key))
    one = certificate.read_text().strip()
    assert served_certificates(server) == {one}
    certify("two", certificate, key)
    two = certificate.read_text().strip()
    server.send(signal.SIGHUP)
    wait_until(lambda: served_certificates(server) == {two})
    certificate.write_text("no certificate")
    server.send(signal.SIGHUP)
    wait_until(
        lambda: bool(server.said("the TLS certificate was not replaced; the old one stays in use"))
    )
    assert served_certificates(server) == {two}
    if case.options:  # a worker that starts now has the old certificate too
        first = workers(server.pid)[0]
        with contextlib.suppress(ProcessLookupError):
            subprocess.run(["/bin/kill", "-TERM", str(first)], check=True)
        wait_until(lambda: first not in (now := workers(server.pid)) and len(now) == WORKERS)
        wait_until(lambda: served_certificates(server) == {two})
    certify("three", certificate, tmp_path / "another.pem")
    server.send(signal.SIGHUP)
    time.sleep(0.5)
    assert served_certificates(server) == {two}, "certificate and key do not belong together"
    assert status(server) == 200


@pytest.mark.parametrize(
    "number",
    [
        *(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGPIPE),
    ],
)
def test_an_ignored_signal_ends_no_process(
    serve: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    server = start(serve, Case(embedded(tmp_path), ()))
    for pid in (server.pid, *children(server.pid)):
        subprocess.run(["/bin/kill", f"-{number.value}", str(pid)], check=True)
    time.sleep(0.5)
    assert server.is_running
    assert status(server) == 200


def test_quit_ends_a_server_and_is_logged(serve: Serve, case: Case) -> None:
    server = start(serve, case)
    server.send(signal.SIGQUIT)
    assert server.exit_code() == 0
    assert server.said("stopping")[-1]["signal"] == "SIGQUIT"


def test_a_server_ends_after_its_drain_delay(serve: Serve, case: Case) -> None:
    server = start(serve, case, "--drain-delay", "1")
    began = time.monotonic()
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert time.monotonic() - began >= 1
    assert server.said("draining")[0]["seconds"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_server_serves_during_its_delay_and_a_second_signal_ends_it(
    serve: Serve, case: Case, number: signal.Signals
) -> None:
    server = start(serve, case, "--drain-delay", "600")
    server.send(signal.SIGTERM)
    wait_until(lambda: {status(server) for _ in range(6)} == {503})
    assert status(server, "/healthz") == 200
    assert server.said("draining")
    server.send(number)
    assert server.exit_code() == 0
