"""Runs what is in deploy/ without containers and systemd: the same commands, as processes."""

import asyncio
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from tests.end_to_end.monitoring import answers, until_ready
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.proxies import nginx, until_it_answers
from tests.ports import free_port
from tests.postgres_server import PostgresServer

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEMD = DEPLOY / "systemd"
PROGRAM = Path(sys.executable).with_name("firmtrail")
EXPOSURE_MAX = 20
"""The largest exposure that is accepted, in tenths, as systemd-analyze counts: 2.0 of 10."""


def run(*command: object, **options: Any) -> str:
    arguments = [str(each) for each in command]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=60, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return f"{done.stdout}{done.stderr}"


def test_the_units_are_valid_and_confined(tmp_path: Path) -> None:
    for file in SYSTEMD.glob("firmtrail.*"):
        if file.is_file():
            text = file.read_text().replace("/opt/firmtrail/bin/firmtrail", str(PROGRAM))
            (tmp_path / file.name).write_text(text)
    drop_in = tmp_path / "firmtrail.service.d"
    shutil.copytree(SYSTEMD / drop_in.name, drop_in)
    units = [tmp_path / name for name in ("firmtrail.service", "firmtrail.socket")]
    assert run("systemd-analyze", "verify", *units) == ""
    options = ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")
    run("systemd-analyze", *options, units[0])


def test_every_variable_in_the_files_is_an_options() -> None:
    known = (DEPLOY.parent / "docs" / "settings.md").read_text()
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            for name in re.findall(r"FIRMTRAIL_[A-Z_]+[A-Z]", file.read_text()):
                assert f"`{name}`" in known, f"{name} in {file}"


CONFINED = """\
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0, "PR_SET_MDWE"
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_the_unit_starts_a_server_that_may_not_make_memory_executable(tmp_path: Path) -> None:
    """Runs the command of the unit with its variables, and with the kernel's refusal of memory that
    is writable and executable, which MemoryDenyWriteExecute= asks for."""
    unit = (SYSTEMD / "firmtrail.service").read_text()
    [start] = re.findall(r"ExecStart=(.*)", unit)
    [variable] = re.findall(r"\nEnvironment=(.*)", unit)
    name, _, value = variable.replace("/var/lib/firmtrail", str(tmp_path)).partition("=")
    command = [str(PROGRAM), *shlex.split(start)[1:]]
    environment = ENVIRONMENT | {name: value, "FIRMTRAIL_SERVE_PORT": "0"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", CONFINED, *command], env=environment, stdout=log, stderr=log
        )
        try:
            url = served_url(server, tmp_path / "log")
            with urllib.request.urlopen(f"{url}/readyz", timeout=20) as answer:  # noqa: S310 (ours)
                assert answer.status == 200
        finally:
            server.terminate()
            assert server.wait(30) == 0


def served_url(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        if found := re.search(r'"url":"([^"]+)".*"event":"serving"', log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture
def compose(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of deploy/ with new secrets, and what its compose file says."""
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets"))
    run(folder / "compose" / "make-secrets.sh")
    parsed = yaml.safe_load((folder / "compose" / "compose.yaml").read_text())
    return folder, parsed


def test_our_containers_have_no_rights_and_the_database_has_no_port(
    compose: tuple[Path, dict[str, Any]],
) -> None:
    folder, parsed = compose
    for name in ("migrate", "firmtrail"):
        service = parsed["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["build"]["dockerfile"] == "deploy/Containerfile"
    for name in ("db", "migrate", "nginx"):
        assert "ports" not in parsed["services"][name]
    for service in parsed["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            is_there = source in parsed["volumes"] or (folder / "compose" / source).exists()
            assert is_there, volume
    again = subprocess.run(
        [folder / "compose" / "make-secrets.sh"], capture_output=True, check=False
    )
    assert again.returncode == 1, "secrets are never replaced"


class Composed:
    """Runs the services of the compose file as processes of this machine."""

    def __init__(self, folder: Path, parsed: Mapping[str, Any], database: str) -> None:
        self.folder = folder
        self._services = parsed["services"]
        self._database = database
        self._port = free_port()

    def environment(self, name: str) -> dict[str, str]:
        service = self._services[name]
        lines = (self.folder / "compose" / service["env_file"]).read_text().split()
        given = dict(line.split("=", 1) for line in lines) | service.get("environment", {})
        url = urlsplit(given["FIRMTRAIL_DATABASE"])
        assert url.hostname == "db"
        own = {
            "FIRMTRAIL_DATABASE": self._database.replace("postgres@", f"{url.username}@"),
            "FIRMTRAIL_SERVE_PORT": str(self._port),
        }
        places = {"/keys/": f"{self.folder}/compose/secrets/keys/", "/data/": f"{self.folder}/"}
        for variable, value in given.items():
            own.setdefault(variable, re.sub("^/(keys|data)/", lambda at: places[at[0]], value))
        return ENVIRONMENT | own

    def command(self, name: str) -> list[str]:
        return [str(PROGRAM), *self._services[name]["command"]]


@pytest.mark.slow
async def test_the_composition_serves_through_nginx_and_is_scraped(
    compose: tuple[Path, dict[str, Any]], postgres: PostgresServer, tmp_path: Path
) -> None:
    folder, parsed = compose
    url = postgres.create_database("composed")
    create_roles(folder, postgres)
    composed = Composed(folder, parsed, url)
    await asyncio.to_thread(run, *composed.command("migrate"), env=composed.environment("migrate"))
    with ExitStack() as stack:
        log = tmp_path / "server.log"
        server = stack.enter_context(
            running(*composed.command("firmtrail"), log=log, env=composed.environment("firmtrail"))
        )
        served = await asyncio.to_thread(served_url, server, log)
        port = free_port()
        for name in ("fleet.crt", "fleet.key"):
            shutil.copy(folder / "compose" / "secrets" / "tls" / name, tmp_path)
        proxy = nginx(tmp_path, port, urlsplit(served).netloc)
        process = stack.enter_context(running(*proxy, log=tmp_path / "nginx.log"))
        await until_it_answers(process, port)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "fleet.crt"))
        for path in ("readyz", "openapi.json"):
            address = f"https://localhost:{port}/{path}"
            body = await asyncio.to_thread(read, address, trusting)
        assert msgspec.json.decode(body)["servers"] == [{"url": f"https://localhost:{port}"}]
        await asyncio.to_thread(check_scraped, folder, urlsplit(served).netloc, stack)


def read(address: str, trusting: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(address, timeout=20, context=trusting) as answer:  # noqa: S310 (ours)
        body: bytes = answer.read()
        return body


def running(*command: object, log: Path, **options: Any) -> Any:
    """Runs a program until the end of the context, which ends it with SIGTERM."""

    class Running:
        def __enter__(self) -> subprocess.Popen[bytes]:
            with log.open("wb") as output:
                arguments = [str(each) for each in command]
                self.process = subprocess.Popen(
                    arguments, stdout=output, stderr=output, start_new_session=True, **options
                )
            return self.process

        def __exit__(self, *_: object) -> None:
            self.process.terminate()
            self.process.wait(40)

    return Running()


def create_roles(folder: Path, postgres: PostgresServer) -> None:
    """Runs the script that the database's container runs when its folder is new."""
    secrets = (folder / "compose" / "secrets" / "db.env").read_text().split()
    asked = dict(line.split("=", 1) for line in secrets)
    path = f"{postgres.programs}:{os.environ['PATH']}"
    make_owner = (
        "CREATE ROLE firmtrail_owner LOGIN SUPERUSER; "
        "ALTER DATABASE composed OWNER TO firmtrail_owner"
    )
    environment = asked | {
        "PATH": path,
        "PGHOST": str(postgres.folder),
        "POSTGRES_USER": "firmtrail_owner",
        "POSTGRES_DB": "composed",
    }
    run(
        *("psql", "--username=postgres", "--dbname=composed", "--command", make_owner),
        env=environment,
    )
    run(folder / "compose" / "roles.sh", env=environment)


def check_scraped(folder: Path, target: str, stack: ExitStack) -> None:
    """Runs Prometheus with its configuration until it has scraped the server."""
    configured = folder / "prometheus" / "prometheus.yml"
    text = configured.read_text()
    configured.write_text(text.replace("firmtrail:8080", target).replace("15s", "1s"))
    port = free_port()
    stack.enter_context(
        running(
            *("prometheus", "--config.file", configured, "--storage.tsdb.path", folder / "tsdb"),
            *("--web.listen-address", f"127.0.0.1:{port}"),
            log=folder / "prometheus.log",
        )
    )
    until_ready(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 30
    while not (
        found := answers(f"http://127.0.0.1:{port}", 'up{job="firmtrail"} == 1', time.time())
    ):
        assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
        time.sleep(0.2)
    assert found[0]["metric"]["instance"] == target
