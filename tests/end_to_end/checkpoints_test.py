"""Servers publish checkpoints: with their keys, after crashes and restored backups, and in
parallel."""

import os
import random
import shutil
import signal
import stat
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from firmtrail.eventstore import log, merkle, proofs, tree
from firmtrail.publishing import checkpoint, signing_key
from firmtrail.publishing.checkpoint import Checkpoint
from tests.databases import opened, sqlite_template
from tests.end_to_end.asking import ask
from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT, Server
from tests.end_to_end.site import P, Site, new_site
from tests.s3 import BUCKET

OPENSSL = shutil.which("openssl") or "openssl"
COULD_NOT_RUN = 2
KILLS = 3
PUBLISHED_WITHIN_S = 1.0
SLACK_S = 4.0
"""Extra time for a busy machine."""

NOTHING = Checkpoint("", 0, merkle.EMPTY_ROOT)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Site]:
    """A database file with the project acme and its device d1; no server has served it yet."""
    path = tmp_path_factory.mktemp("made") / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return path, await new_site(f"sqlite:///{path}", ["d1"])


@pytest.fixture
def file(made: tuple[Path, Site], tmp_path: Path) -> Path:
    path = tmp_path / "firmtrail.db"
    shutil.copyfile(made[0], path)
    return path


@pytest.fixture
def fleet(made: tuple[Path, Site], file: Path) -> "Fleet":
    return Fleet(f"sqlite:///{file}", made[1])


@pytest.fixture
async def cluster(postgres_url: str) -> "Fleet":
    return Fleet(postgres_url, await new_site(postgres_url, ["d1"]))


@pytest.fixture
def bucket(s3_client: object) -> str:
    """The URL of a store of checkpoints in an empty bucket; the environment names its server."""
    return f"s3://{BUCKET}/checkpoints"


class Fleet:
    """The project with its device, on any server."""

    def __init__(self, database: str, site: Site) -> None:
        self.database = database
        self.admin, self.secret = site.admin, site.secrets["d1"]
        self.sent = 0

    def report(self, server: Server) -> tuple[int, dict[str, Any]]:
        self.sent += 1
        body = {"version": f"1.0.{self.sent}", "report_id": f"r{self.sent}"}
        status, answer = ask(f"{server.url}{P}/devices/d1/reports", self.secret, body)
        return status, msgspec.json.decode(answer)

    def get(self, server: Server, path: str) -> tuple[int, bytes]:
        return ask(f"{server.url}{P}{path}", self.admin)

    def checkpoint(self, server: Server) -> Checkpoint:
        """Returns the served checkpoint, verified by the served key; it has size 0 if there is
        none."""
        status, key = self.get(server, "/log/key")
        assert status == 200
        status, note = self.get(server, "/log/checkpoint")
        if status == 404:
            return NOTHING
        return checkpoint.verify_note(note.decode(), checkpoint.read_key_line(key.decode()))

    def wait_for_checkpoint(self, server: Server, size: int) -> Checkpoint:
        """Returns the first checkpoint that covers this size."""
        deadline = time.monotonic() + PUBLISHED_WITHIN_S + SLACK_S
        while (found := self.checkpoint(server)).size < size:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found


def next_to(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}.{suffix}")


def last_published(file: Path, origin: str = "firmtrail/acme/1") -> Checkpoint:
    return checkpoint.parse(msgspec.json.decode(next_to(file, "checkpoints").read_bytes())[origin])


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run([OPENSSL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openssl_reads_the_key_and_verifies_a_checkpoint(
    serve: Serve, fleet: Fleet, file: Path, tmp_path: Path
) -> None:
    assert not next_to(file, "key").exists()
    server = serve(fleet.database)
    key = next_to(file, "key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "ED25519" in openssl("pkey", "-in", key, "-noout", "-text")
    fleet.wait_for_checkpoint(server, 1)
    text, signature = tmp_path / "text", tmp_path / "signature"
    note = fleet.get(server, "/log/checkpoint")[1].decode()
    text.write_text(note.partition("\n\n")[0] + "\n")
    signature.write_bytes(b64decode(note.split()[-1])[checkpoint.KEY_ID_BYTES :])
    verify = ("pkeyutl", "-verify", "-inkey", key, "-rawin", "-sigfile", signature)
    assert "Success" in openssl(*verify, "-in", text)


def test_a_key_of_openssl_signs(serve: Serve, fleet: Fleet, file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    server = serve(fleet.database, "--signing-key-file", str(key))
    fleet.wait_for_checkpoint(server, 1)
    assert not next_to(file, "key").exists()
    line = checkpoint.read_key_line(fleet.get(server, "/log/key")[1].decode())
    public: Ed25519PublicKey = signing_key.read(key).public_key()
    assert line.key == public


def test_events_are_published_within_a_second_and_when_the_server_ends(
    serve: Serve, fleet: Fleet, file: Path
) -> None:
    server = serve(fleet.database)
    _, receipt = fleet.report(server)
    fleet.wait_for_checkpoint(server, receipt["position"] + 1)
    _, receipt = fleet.report(server)
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert last_published(file).size == receipt["position"] + 1
    assert in_process(fleet.database, "device", "add", "d2", "--project", "acme").exit_code == 0
    assert last_published(file).size == receipt["position"] + 2, (
        "a command publishes the events that it recorded"
    )


async def test_a_server_that_is_killed_at_any_moment_leaves_no_fork(
    serve: Serve, fleet: Fleet, file: Path
) -> None:
    server = serve(fleet.database)
    seen = [fleet.wait_for_checkpoint(server, 1)]
    for _ in range(KILLS):
        until = time.monotonic() + random.uniform(0.3, 1.2)
        while time.monotonic() < until:
            assert fleet.report(server)[0] == 201
            seen.append(fleet.checkpoint(server))
        server.kill()
        seen.append(last_published(file))
        server.start()
        assert ask(f"{server.url}/readyz")[0] == 200
        _, receipt = fleet.report(server)
        seen.append(fleet.wait_for_checkpoint(server, receipt["position"] + 1))
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    await assert_one_log(fleet.database, [*seen, last_published(file)])


def busy_servers(
    serve: Serve, cluster: Fleet, *options: str
) -> tuple[list[Server], list[Checkpoint]]:
    """Starts two servers on one database, reports to them, and returns the checkpoints seen."""
    servers = [
        serve(cluster.database, *options),
        serve(cluster.database, *options, "--workers", "2"),
    ]
    seen = [cluster.wait_for_checkpoint(server, 1) for server in servers]
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert cluster.report(random.choice(servers))[0] == 201
        seen.append(cluster.checkpoint(random.choice(servers)))
    return servers, seen


async def assert_one_log(database: str, seen: list[Checkpoint]) -> None:
    """Asserts that every checkpoint that was seen is one of this log."""
    roots = {each.size: each.root for each in seen}
    assert len(roots) > 1
    assert all(roots[each.size] == each.root for each in seen)
    async with opened(database) as db:
        last = proofs.TreeHead(max(roots), roots[max(roots)])
        for size, root in roots.items():
            proof = await tree.consistency(db, 1, size, last.size)
            assert proofs.verify_consistency(proof, proofs.TreeHead(size, root), last)
        assert (await log.head(db, 1)).size >= last.size


def test_a_restored_backup_is_refused_until_the_project_continues(
    serve: Serve, fleet: Fleet, file: Path, tmp_path: Path
) -> None:
    server = serve(fleet.database)
    _, first = fleet.report(server)
    stop(server)
    shutil.copyfile(file, tmp_path / "backup.db")
    server.start()
    for _ in range(3):
        _, last = fleet.report(server)
    stop(server)
    shutil.copyfile(tmp_path / "backup.db", file)
    server.start()
    status, problem = fleet.report(server)
    assert (status, problem["code"]) == (503, "log_refused")
    for part in (f"{first['position'] + 1}", f"{last['position'] + 1}", "firmtrail log continue"):
        assert part in problem["detail"]
    assert ask(f"{server.url}/readyz")[0] == 503
    assert fleet.get(server, "/devices")[0] == 200
    assert len(server.said("log refused")) == 1
    continuing = ("log", "continue", "--project", "acme")
    done = firmtrail(fleet.database, *continuing)
    assert (done.exit_code, "its log 2" in done.said) == (0, True), done.said
    fleet.sent = 0
    status, again = fleet.report(server)
    assert (status, again["log"], again["position"]) == (200, 1, first["position"])
    status, new = fleet.report(server)
    assert (status, new["log"], new["position"]) == (201, 2, 1)
    assert ask(f"{server.url}/readyz")[0] == 200
    assert in_process(fleet.database, *continuing).exit_code == COULD_NOT_RUN
    stop(server)
    assert last_published(file).size == last["position"] + 1
    assert last_published(file, "firmtrail/acme/2").size == 2


def stop(server: Server) -> None:
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


def test_a_lost_key_is_not_replaced_by_another(serve: Serve, fleet: Fleet, file: Path) -> None:
    server = serve(fleet.database)
    fleet.wait_for_checkpoint(server, 1)
    stop(server)
    key = next_to(file, "key")
    key.rename(key.with_suffix(".away"))
    for command in (("serve", "--port", "0"), ("project", "add", "other")):
        done = firmtrail(fleet.database, *command)
        assert done.exit_code == COULD_NOT_RUN
        assert "bring it back" in done.said
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    done = firmtrail(fleet.database, "serve", "--port", "0")
    assert done.exit_code == COULD_NOT_RUN
    assert "do not belong together" in done.said


def test_deleting_everything_starts_over(
    serve: Serve, fleet: Fleet, file: Path, made: tuple[Path, Site]
) -> None:
    server = serve(fleet.database)
    fleet.wait_for_checkpoint(server, 1)
    stop(server)
    for each in file.parent.glob(f"{file.name}*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    shutil.copyfile(made[0], file)
    server.start()
    assert fleet.wait_for_checkpoint(server, 1).origin == "firmtrail/acme/1"


def test_postgres_without_a_key_is_served_only_with_no_publishing(
    serve: Serve, cluster: Fleet
) -> None:
    for more in ((), ("--workers", "2")):
        done = in_process(cluster.database, "serve", "--port", "0", *more)
        assert done.exit_code == COULD_NOT_RUN
        assert "--no-publishing" in done.said and "--signing-key-file" in done.said
    server = serve(cluster.database, "--no-publishing")
    assert "\nfirmtrail_publishing 0.0" in ask(f"{server.url}/metrics")[1].decode()
    assert cluster.report(server)[0] == 201
    assert len(server.said("no checkpoints are published")) == 1
    status, problem = cluster.get(server, "/log/checkpoint")
    assert (status, msgspec.json.decode(problem)["code"]) == (404, "publishing_off")


def test_postgres_with_a_key_needs_a_file_of_checkpoints(postgres_url: str, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    signing_key.create(key)
    done = firmtrail(postgres_url, "serve", "--port", "0", FIRMTRAIL_SIGNING_KEY_FILE=str(key))
    assert done.exit_code == COULD_NOT_RUN
    assert "--checkpoints-file" in done.said
    done = in_process(postgres_url, "serve", FIRMTRAIL_SERVE_SIGNING_KEY_FILE=f"{key}.none")
    assert done.exit_code == COULD_NOT_RUN
    assert "does not exist" in done.said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_contradicting_options_of_a_key_are_refused(
    fleet: Fleet, postgres_url: str, tmp_path: Path, workers: str
) -> None:
    key = tmp_path / "key.pem"
    signing_key.create(key)
    both = ("--no-publishing", "--signing-key-file", str(key), "--workers", workers)
    assert firmtrail(postgres_url, "serve", *both).exit_code == COULD_NOT_RUN
    assert in_process(fleet.database, "serve", "--no-publishing").exit_code == COULD_NOT_RUN
    places = ("--checkpoints", "a", "--checkpoints-file", "b")
    assert in_process(fleet.database, "serve", *places).exit_code == COULD_NOT_RUN


async def test_servers_share_checkpoints_in_a_bucket(
    serve: Serve, cluster: Fleet, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.pem"
    signing_key.create(key)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setitem(ENVIRONMENT, name, os.environ[name])
    options = ("--signing-key-file", str(key), "--checkpoints", bucket)
    servers, seen = busy_servers(serve, cluster, *options)
    _, receipt = cluster.report(servers[1])
    seen.append(cluster.wait_for_checkpoint(servers[1], receipt["position"] + 1))
    for server in servers:
        metrics = ask(f"{server.url}/metrics")[1].decode()
        for name in ("ready", "publishing", "checkpoints_up"):
            assert f"\nfirmtrail_{name} 1.0" in metrics
        stop(server)
    await assert_one_log(cluster.database, seen)
    found = firmtrail(cluster.database, *options, "doctor", "--json").json
    [row] = [row for row in found if row["check"] == "checkpoints"]
    assert (row["verdict"], "of 1 logs" in row["found"]) == ("ok", True), row
    verified = firmtrail(cluster.database, *options, "audit", "verify", "--project", "acme")
    assert verified.exit_code == 0, verified.said


async def test_servers_on_one_postgres_publish_one_log(
    serve: Serve, cluster: Fleet, tmp_path: Path
) -> None:
    key, store = tmp_path / "key.pem", tmp_path / "checkpoints"
    signing_key.create(key)
    options = ("--signing-key-file", str(key), "--checkpoints-file", str(store))
    servers, seen = busy_servers(serve, cluster, *options)
    servers[0].kill()
    _, receipt = cluster.report(servers[1])
    seen.append(cluster.wait_for_checkpoint(servers[1], receipt["position"] + 1))
    assert ask(f"{servers[1].url}/readyz")[0] == 200
    stop(servers[1])
    await assert_one_log(cluster.database, seen)
