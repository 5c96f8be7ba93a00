"""Generates the load, and measures how fast a server answers. All servers get the same load.

It is a closed loop: each connection has one request under way and sends the next one when the
answer is complete, until the time is up or the requests run out. It runs in a process of its own
(`python -m benchmarks.load JOB RESULT`), sends prepared bytes, and reads only the status and the
Content-Length of an answer, so that it takes as little processor time from the server as possible.

`kept` has every answer, those of the warm-up too; only the figures leave the warm-up out.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import cast

import msgspec
import uvloop

CONNECTIONS = 256
WARMUP_S = 0.25
MEASURED_S = 0.75
STRAGGLER_S_MAX = 30

LENGTH = b"\r\nContent-Length: "


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the requests to send, the port, and the duration."""

    port: int
    requests: list[bytes]
    keeps: bool
    """Returns the body of every answer."""
    connections: int = CONNECTIONS
    measured_s: float = MEASURED_S
    interval_s: float = 0
    """The time between two requests of a connection. If the answer takes longer, the next request
    follows immediately. The connections begin one after another, so that the load is even."""
    good: str = "2"
    """The beginning of the status of a good answer."""
    reconnects: bool = False
    """Sends each request on a new connection; its duration includes connecting."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the figures and the answers."""

    answers_per_s: float
    p50_ms: float
    p99_ms: float
    failures: list[str]
    """Each answer that was not a good one, and each connection that broke."""
    kept: list[tuple[int, bytes]]
    """(number of the request, body of its answer)"""
    took_s: float
    """The time until the last answer."""
    ran_out: bool
    """There were too few requests for the time, so the figures are useless."""


def drive(job: Job) -> Result:
    """Runs the job in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-load-") as folder:
        sent, received = Path(folder) / "job", Path(folder) / "result"
        sent.write_bytes(msgspec.msgpack.encode(job))
        subprocess.run([sys.executable, "-m", "benchmarks.load", sent, received], check=True)
        return msgspec.msgpack.decode(received.read_bytes(), type=Result)


@contextlib.contextmanager
def background(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the job in a process of its own until it ends. Every answer must be a good one."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-load-") as folder:
        sent, received = Path(folder) / "job", Path(folder) / "result"
        sent.write_bytes(msgspec.msgpack.encode(job))
        command = [sys.executable, "-m", "benchmarks.load", str(sent), str(received)]
        with subprocess.Popen(command) as process:
            yield process
        assert process.returncode == 0, "the load generator failed"
        result = msgspec.msgpack.decode(received.read_bytes(), type=Result)
        assert not result.failures, result.failures[0]


class Load:
    """Runs one job, from its first request to its last answer."""

    def __init__(self, job: Job) -> None:
        self.turns = iter(range(len(job.requests)))
        self.job = job
        self.good = job.good.encode()
        self.timings: list[tuple[float, float]] = []
        """(time of the answer, duration), in seconds"""
        self.failures: list[str] = []
        self.kept: list[tuple[int, bytes]] = []
        self.stop_at = float("inf")
        self._connecting: set[asyncio.Future[None]] = set()

    async def run(self) -> Result:
        started = perf_counter()
        self.stop_at = started + WARMUP_S + self.job.measured_s
        ended = []
        for _ in range(self.job.connections):
            client: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ended.append(client)
            await self.connect(client)
            await asyncio.sleep(self.job.interval_s / self.job.connections)
        async with asyncio.timeout(WARMUP_S + self.job.measured_s + STRAGGLER_S_MAX):
            await asyncio.gather(*ended)
        return self._result(started, started + WARMUP_S)

    async def connect(self, ended: asyncio.Future[None]) -> None:
        """Opens a connection of a client, who sends until this future has a result."""
        began = perf_counter()
        await asyncio.get_running_loop().create_connection(
            lambda: Connection(self, ended, began), "127.0.0.1", self.job.port
        )

    def connect_again(self, ended: asyncio.Future[None]) -> None:
        """Opens the next connection of a client."""
        connecting = asyncio.ensure_future(self.connect(ended))
        self._connecting.add(connecting)
        connecting.add_done_callback(partial(self._connected, ended))

    def _connected(self, ended: asyncio.Future[None], connecting: asyncio.Future[None]) -> None:
        self._connecting.discard(connecting)
        if error := connecting.exception():
            self.failures.append(f"connecting failed: {error}")
            ended.set_result(None)

    def _result(self, began: float, measured_from: float) -> Result:
        counted = [took for at, took in self.timings if measured_from <= at < self.stop_at]
        percent = quantiles(counted, n=100) if len(counted) > 1 else [0.0] * 99
        return Result(
            answers_per_s=len(counted) / self.job.measured_s,
            p50_ms=percent[49] * 1000,
            p99_ms=percent[98] * 1000,
            failures=self.failures,
            kept=self.kept,
            took_s=max((at for at, _ in self.timings), default=measured_from) - began,
            ran_out=next(self.turns, None) is None,
        )


class Connection(asyncio.Protocol):
    """Sends one request at a time, as one client does."""

    def __init__(self, load: Load, ended: asyncio.Future[None], began: float) -> None:
        self._load = load
        self._requests = load.job.requests
        self._keeps = load.job.keeps
        self._buffer = b""
        self._ended = ended
        self._began_at = began
        self._is_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class has no common base
        self._due_at = perf_counter()
        self._send()
        if self._load.job.reconnects:
            self._sent_at = self._began_at

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        header_end = buffer.find(b"\r\n\r\n") + 4
        if header_end > 3 and len(buffer) >= header_end + _body_bytes(buffer, header_end):
            self._buffer = b""
            self._answered(buffer, header_end)
            return
        self._buffer = buffer

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._is_done:
            self._load.failures.append("the connection broke")
            self._ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = perf_counter()
        number = next(self._load.turns, None) if self._sent_at < self._load.stop_at else None
        if number is None:
            self._close()
            self._ended.set_result(None)
            return
        self._number = number
        self._transport.write(self._requests[number])

    def _answered(self, answer: bytes, header_end: int) -> None:
        answered_at = perf_counter()
        self._load.timings.append((answered_at, answered_at - self._sent_at))
        if not answer.startswith(self._load.good, 9):
            self._load.failures.append(answer.decode(errors="replace"))
        elif self._keeps:
            self._load.kept.append((self._number, answer[header_end:]))
        self._due_at = max(self._due_at + self._load.job.interval_s, answered_at)
        if (wait_s := self._due_at - answered_at) > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send_next)
        else:
            self._send_next()

    def _send_next(self) -> None:
        if self._load.job.reconnects:
            self._close()
            self._load.connect_again(self._ended)
        else:
            self._send()

    def _close(self) -> None:
        self._is_done = True
        self._transport.close()


def _body_bytes(answer: bytes, header_end: int) -> int:
    """Returns the length of the body. Only a 304 has no Content-Length: it has no body."""
    at = answer.find(LENGTH, 0, header_end)
    if at < 0:
        return 0
    return int(answer[at + len(LENGTH) : answer.index(b"\r", at + len(LENGTH))])


def main(paths: Sequence[str]) -> None:
    """Reads a job from the first path, and writes its result to the second."""
    job_path, result_path = map(Path, paths)
    job = msgspec.msgpack.decode(job_path.read_bytes(), type=Job)
    result = uvloop.run(Load(job).run())
    result_path.write_bytes(msgspec.msgpack.encode(result))


if __name__ == "__main__":
    main(sys.argv[1:])
