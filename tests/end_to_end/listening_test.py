"""Tests where a server listens, and what client certificates open there, with real processes."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.authority import Authority
from tests.databases import sqlite_template
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT, Server
from tests.patience import PATIENCE_S

REPORTS = "/api/v1/projects/acme/devices/d1/reports"
JSON = ("-H", "Content-Type: application/json")
UPDATE = "/api/v1/projects/acme/devices/d1/update"


@pytest.fixture
def database(database_url: str) -> str:
    """A database with the device d1, whose certificates say CN=d1."""
    firmtrail(database_url, "project", "add", "acme")
    firmtrail(database_url, "device", "add", "d1", "--project", "acme")
    return database_url


def curl(*options: str) -> str:
    """Returns the status of an answer; 000: there is none."""
    command = ["curl", "-s", "--max-time", "20", "-o", os.devnull, "-w", "%{http_code}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def set_pattern(server: Server, database: str) -> None:
    of_acme = ("a@example.org", "--project", "acme")
    assert firmtrail(database, "user", "add", *of_acme, "--role", "admin").exit_code == 0
    token = firmtrail(database, "token", "create", *of_acme).out.strip()
    url = f"{server.url}/api/v1/projects/acme"
    change = ("-k", "-X", "PATCH", "-d", '{"certificate_pattern": "CN={device}"}')
    assert curl(*change, *JSON, "-H", f"Authorization: Bearer {token}", url) == "200"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_hosts_a_unix_socket_and_client_certificates_are_served(
    serve: Serve, database: str, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    authority, other = Authority(), Authority()
    crt, key = authority.files(tmp_path, "127.0.0.1")
    proxies = tmp_path / "proxies.sock"
    server = serve(
        database,
        *workers,
        *("--host", "127.0.0.1", "--host", "127.0.0.2", "--unix-socket", str(proxies)),
        *("--tls-cert", str(crt), "--tls-key", str(key)),
        *("--tls-client-ca", str(authority.file(tmp_path)), "--certificate-header", "Client-Cert"),
    )
    set_pattern(server, database)
    port = urlsplit(server.url).port
    assert server.said("serving")[-1]["also"] == [f"https://127.0.0.2:{port}", f"unix:{proxies}"]
    assert stat.S_IMODE(proxies.stat().st_mode) == 0o660
    report = (*JSON, "-d", '{"version": "1.0.0"}')
    for host in ("127.0.0.1", "127.0.0.2"):
        url = f"https://{host}:{port}{REPORTS}"
        for name, expected in (("d1", "20"), ("d2", "401")):
            mine = authority.files(tmp_path, name)
            presented = ("--cert", str(mine[0]), "--key", str(mine[1]))
            assert curl("-k", *presented, *report, url).startswith(expected)
        assert curl("-k", *report, url) == "401"
        crt, key = other.files(tmp_path, "d1")
        assert curl("-k", "--cert", str(crt), "--key", str(key), *report, url) == "000"
    own = authority.files(tmp_path, "d1")[0].read_text()
    through = ("--unix-socket", str(proxies), "-H", "X-Forwarded-For: 192.0.2.7")
    url = f"http://x{UPDATE}"
    assert curl(*through, "-H", f"Client-Cert: {quote(own)}", url) == "200"
    assert curl(*through, url) == "401"
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    refused = [line for line in server.said("request") if line["path"] == UPDATE]
    assert [line["address"] for line in refused] == ["192.0.2.7"]
    assert not proxies.exists()


def test_the_socket_of_a_killed_server_is_replaced_and_no_others(
    serve: Serve, sqlite_url: str, tmp_path: Path
) -> None:
    proxies = tmp_path / "proxies.sock"
    server = serve(sqlite_url, "--unix-socket", str(proxies))
    second = tmp_path / "second.db"
    second.write_bytes(sqlite_template())
    options = ("serve", "--port", "0", "--unix-socket")
    for path in (str(proxies), sqlite_url.removeprefix("sqlite:///"), str(tmp_path / "no" / "x")):
        refused = firmtrail(f"sqlite:///{second}", *options, path)
        assert refused.exit_code == 2
        assert "--unix-socket" in refused.said
    own = f"{sqlite_url.removeprefix('sqlite:///')}.sock"
    assert "need no credential" in firmtrail(sqlite_url, *options, own).said
    server.kill()
    assert proxies.exists()
    server.start()
    assert curl("--unix-socket", str(proxies), "http://x/healthz") == "200"


def test_a_proxy_on_a_unix_socket_says_which_scheme_its_clients_use(
    serve: Serve, sqlite_url: str, tmp_path: Path
) -> None:
    proxies = tmp_path / "proxies.sock"
    serve(sqlite_url, "--unix-socket", str(proxies))
    command = ["curl", "-s", "--max-time", "20", "--unix-socket", str(proxies), "-i"]
    for scheme, is_strict in (("https", True), ("http", False)):
        sent = [*command, "-H", f"X-Forwarded-Proto: {scheme}", "http://out.example/healthz"]
        answer = subprocess.run(sent, capture_output=True, text=True, check=True).stdout
        assert ("Strict-Transport-Security" in answer) is is_strict


ACTIVATED = """\
import os, socket, sys
for n, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, 3 + n)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(n + 1)}
os.execv(sys.executable, [sys.executable, "-m", "firmtrail", *sys.argv[2:]])
"""


@pytest.mark.parametrize("kind", ["one process", "workers"])
def test_a_server_takes_over_the_service_managers_sockets_and_reports_to_it(
    kind: str, database_url: str, tmp_path: Path
) -> None:
    path, notified = tmp_path / "given.sock", tmp_path / "notify.sock"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        (tmp_path / "log").open("wb") as log,
    ):
        unix.bind(str(path))
        unix.listen()
        manager.bind(str(notified))
        manager.settimeout(PATIENCE_S)
        fds = ",".join(str(os.dup(each.fileno())) for each in (tcp, unix))
        passed = [int(fd) for fd in fds.split(",")]
        command = ["--database", database_url, "serve"]
        command += [] if kind == "one process" else ["--workers", "2"]
        command += [] if database_url.startswith("sqlite") else ["--no-publishing"]
        server = subprocess.Popen(
            [sys.executable, "-c", ACTIVATED, fds, *command],
            env=ENVIRONMENT | {"NOTIFY_SOCKET": str(notified), "WATCHDOG_USEC": "1000000"},
            pass_fds=passed,
            stdout=log,
            stderr=log,
        )
        try:
            said: set[bytes] = set()
            while not {b"READY=1", b"WATCHDOG=1"} <= said:
                said.add(manager.recv(4096).partition(b"\n")[0])
            url = f"http://127.0.0.1:{tcp.getsockname()[1]}/healthz"
            assert curl(url) == "200"
            assert curl("--unix-socket", str(path), "http://x/healthz") == "200"
            server.send_signal(signal.SIGTERM)
            while manager.recv(4096) != b"STOPPING=1":
                pass
            assert server.wait(30) == 0
        finally:
            server.kill()
            server.wait()
        assert path.exists(), "the manager's sockets stay"
