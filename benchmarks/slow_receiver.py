"""Measures how long a report takes while the webhook of its project has a slow receiver.

Two servers on SQLite get reports in turns, one report at a time: one without a webhook, and one
whose webhook always waits for its receiver, while each report adds an event that it has to send.
"""

import contextlib
import http.client
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
from msgspec import structs

from benchmarks import fleet, load, processes
from benchmarks.fleet import Fleet
from benchmarks.rounds import Measure
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger

DEVICES = 2_000
ROUNDS = 20
ANSWER_S = 5.0
TO_NONE = Bound(1 / 1.05, 1)
"""A slow receiver makes a report take at most 5 % longer, by the medians of the rounds."""


class Receiver(ThreadingHTTPServer):
    """Answers each delivery after `ANSWER_S`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Delivery)
        self.deliveries = 0


class _Delivery(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.deliveries += 1
        time.sleep(ANSWER_S)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def run() -> tuple[list[Row], list[str]]:
    """Measures; returns the rows and the faults."""
    ledger, slow_ledger = Ledger(), Ledger()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firmtrail-bench-")))
        receiver = stack.enter_context(_receiving())
        port, _ = _serving(stack, folder / "none.db")
        none = _reports("no webhook", port, ledger)
        port, token = _serving(stack, folder / "slow.db")
        _add_webhook(port, token, receiver)
        slow = _reports("a slow receiver", port, slow_ledger)
        for _ in range(ROUNDS):
            none.round()
            slow.round()
        least = ROUNDS * load.MEASURED_S / ANSWER_S
        assert receiver.deliveries >= least, "the webhook did not send meanwhile"
    row = structs.replace(slow.row(none), ratio=none.p50_ms / slow.p50_ms, bound=TO_NONE)
    return [none.row(), row], [*ledger.faults, *slow_ledger.faults]


@contextlib.contextmanager
def _receiving() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


def _serving(stack: contextlib.ExitStack, file: Path) -> tuple[int, str]:
    """Starts a server with a fleet; returns its port, and an administrator's token."""
    database, options = f"sqlite:///{file}", ("--webhooks-allow=127.0.0.0/8",)
    token = processes.prepare(database).admin
    port = stack.enter_context(processes.firmtrail(database, options=options)).port
    processes.register(port, token, DEVICES)
    return port, token


def _reports(what: str, port: int, ledger: Ledger) -> Measure:
    name, reports = f"reports one at a time, {what}", Fleet(DEVICES).singles()
    return Measure(name, port, reports, ledger, unit="reports/s", connections=1)


def _add_webhook(port: int, token: str, receiver: Receiver) -> None:
    body = msgspec.json.encode({"url": f"http://127.0.0.1:{receiver.server_port}/"})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST", f"{fleet.P}/webhooks", body, headers)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
