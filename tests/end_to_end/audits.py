"""Runs audits as processes, and serves files to them."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.command import Done, in_process

WELL, FOUND_WRONG, COULD_NOT_RUN = 0, 1, 2


def audit(database: str, *arguments: str | Path) -> Done:
    return in_process(database, "audit", *map(str, arguments))


def well(done: Done) -> None:
    assert done.exit_code == WELL, done.out + done.said


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
