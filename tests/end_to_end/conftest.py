"""Starts servers for end-to-end tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import Server

type Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `serve` on a database, with options; the test fails if a server met a bug."""
    servers: list[Server] = []
    with contextlib.ExitStack() as stack:

        def start(database: str, *options: str, source: Path | None = None) -> Server:
            log = tmp_path / f"server-{len(servers)}.log"
            server = stack.enter_context(Server(database, log, *options, source=source))
            servers.append(server)
            return server

        yield start
    assert [line for server in servers for line in server.tracebacks()] == []
