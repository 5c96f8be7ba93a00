"""Runs audits as processes, and serves files to them."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.command import Done, firmtrail, in_process

WELL, FOUND_WRONG, COULD_NOT_RUN = 0, 1, 2


def audit(database: str, *arguments: str | Path) -> Done:
    return in_process(database, "audit", *map(str, arguments))


def well(done: Done) -> None:
    assert done.exit_code == WELL, done.out + done.said


def name_the_log_before(project: str, token: str, saved: Path) -> None:
    """Checks that an audit of a moved project's new log alone says that the old one was not read;
    `project` is its URL."""

    def verify(log: str, *options: str) -> tuple[int, str]:
        url = ("--url", f"{project}/{log}", "--token", token)
        done = firmtrail("sqlite:///none", "audit", "verify", *url, *options)
        return done.exit_code, " ".join(done.said.split())

    code, said = verify("logs/1", "--save", str(saved))
    assert (code, "continues" in said) == (WELL, False), said
    for log in ("log", "logs/2"):
        code, said = verify(log)
        assert "new/acme/2 continues old/acme/1, which was not read" in said
        assert (code, f"verify that log at {project}/logs/1, too." in said) == (WELL, True), said
    code, said = verify("log", "--from", str(saved))
    assert (code, "but of old/acme/1, of the same project" in said) == (COULD_NOT_RUN, True), said


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serves a folder with Python's own web server."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Logs nothing."""
