"""Checks that the demo starts only on its own data, and only for this machine."""

import contextlib
import signal
import sqlite3
from pathlib import Path

import pytest

from firmtrail.commands.demo import EMAIL
from tests.end_to_end.asking import COULD_NOT_RUN, DONE, SEED, ask
from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve


def refused(database: str, *arguments: str) -> str:
    options = () if database.startswith("sqlite") else ("--no-publishing",)
    done = firmtrail(database, "serve", "--demo", "--port", "0", *options, *arguments)
    assert done.exit_code == COULD_NOT_RUN, done.out + done.said
    assert "Traceback" not in done.said
    return " ".join(done.said.split())


def test_the_demo_starts_again_on_its_own_database(serve: Serve, database_url: str) -> None:
    server = serve(database_url, "--demo")
    for _ in range(3):
        assert ask(f"{server.url}/populate_database")[0] in {200, 429}
        assert ask(f"{server.url}/{SEED}&secret=ABC")[0] == 200
        add = ("user", "add", "new@example.org", "--project", "demo", "--role", "viewer")
        assert in_process(database_url, *add).exit_code == DONE
        server.send(signal.SIGTERM)
        assert server.exit_code() == DONE
        server.start()


@pytest.mark.parametrize(
    ("commands", "named"),
    [
        ([("project", "add", "acme")], "the project acme"),
        ([("project", "add", "demo")], "a project demo of your own"),
        (
            [
                ("project", "add", "demo"),
                ("user", "add", EMAIL, "--project", "demo", "--role", "admin"),
                ("device", "add", "1", "--project", "demo", "--secret", "AAA"),
            ],
            "a project demo of your own",
        ),
    ],
)
def test_the_demo_refuses_what_it_did_not_create(
    database_url: str, commands: list[tuple[str, ...]], named: str
) -> None:
    for each in commands:
        assert in_process(database_url, *each).exit_code == DONE
    assert f"the database holds {named}, which the demo did not create" in refused(database_url)
    path = database_url.removeprefix("sqlite:///")
    if database_url.startswith("sqlite"):
        read_only = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        with contextlib.closing(read_only) as connection:
            [[users]] = connection.execute("SELECT count(password_hash) FROM users")
        assert users == 0


def test_the_demo_refuses_a_database_with_another_project(serve: Serve, database_url: str) -> None:
    server = serve(database_url, "--demo")
    assert in_process(database_url, "project", "add", "acme").exit_code == DONE
    server.send(signal.SIGTERM)
    assert server.exit_code() == DONE
    assert "the project acme" in refused(database_url)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_the_demo_listens_only_for_this_machine(sqlite_url: str, host: str) -> None:
    assert "--demo-public" in refused(sqlite_url, "--host", host)


@pytest.mark.parametrize(
    "arguments",
    [("--host", "localhost"), ("--host", "0.0.0.0", "--demo-public")],  # noqa: S104
)
def test_the_demo_is_public_only_with_its_option(
    serve: Serve, sqlite_url: str, arguments: tuple[str, ...]
) -> None:
    assert ask(f"{serve(sqlite_url, '--demo', *arguments).url}/healthz")[0] == 200


def test_a_database_that_the_demo_refuses_is_left_as_it_is(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    assert in_process(sqlite_url, "project", "add", "acme").exit_code == DONE
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
    before = path.read_bytes()
    assert "the project acme" in refused(sqlite_url)
    assert path.read_bytes() == before
    assert not path.with_name(f"{path.name}.key").exists()
