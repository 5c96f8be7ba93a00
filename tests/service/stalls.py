"""Measures how long an event loop stands still."""

import asyncio
import gc
import gzip
import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.service.site import Site

STALL_S_MAX = 0.05
TURNS_MAX = 4
FIRST_TURN = 4
"""How many times as long the first turn may take: it also does what is done only once."""

type Made = Callable[[int], bytes]
"""Returns a body. One that the service takes has other content in each turn, from 0 on."""


def array(item: bytes, count: int) -> bytes:
    return b"[" + b",".join([item] * count) + b"]"


def repeated(body: bytes) -> Made:
    """Returns how a body is made that each turn may repeat."""
    return lambda _turn: body


@contextmanager
def without_collections() -> Iterator[None]:
    """Turns garbage collection off: it would take long on the heap of the tests."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def known_work_s() -> float:
    """Measures some work on this machine that takes 10 ms on a common one."""
    began = time.thread_time()
    sum(n * n for n in range(250_000))
    return time.thread_time() - began


class Stalls:
    """Measures the longest time for which the event loop is occupied without a break: processor
    time of its thread from the end of one wait for events to the beginning of the next."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began = time.thread_time()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the running loop. A task that is always ready could do so too, and would take
        the interpreter from the threads that decode."""
        loop = asyncio.get_running_loop()
        selector = loop._selector  # type: ignore[attr-defined]
        wait = selector.select

        def select(timeout: float | None = None) -> object:
            self.longest_s = max(self.longest_s, time.thread_time() - self._began)
            try:
                return wait(timeout)
            finally:
                self._began = time.thread_time()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selector, "select", select)
            yield


class Sender:
    """Sends bodies, and fails the test if one of them occupies the event loop for long.

    The time of a processor that several machines share is not only ours, and may be longer than the
    work. So a body is at fault if it takes too long in each of several turns.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._bound_s = max(STALL_S_MAX, 5 * max(known_work_s() for _ in range(5)))

    async def send(self, named: str, method: str, path: str, made: Made, **sent: str) -> int:
        """Returns the status of the first answer."""
        headers = {name.replace("_", "-"): value for name, value in sent.items()}
        statuses, stalled_s = list[int](), list[float]()
        for turn in range(TURNS_MAX):
            body, stalls = gzip.compress(made(turn), 1), Stalls()
            with stalls.watching():
                status = await asyncio.to_thread(post, self._site, method, path, body, headers)
            statuses.append(status)
            stalled_s.append(stalls.longest_s)
            if stalled_s[0] > FIRST_TURN * self._bound_s:
                break
            if stalls.longest_s <= self._bound_s:
                return statuses[0]
        pytest.fail(f"{named} occupied the event loop for {stalled_s} s, {statuses}")


def post(site: Site, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Sends a compressed body, in a thread of its own: the client must not occupy the loop."""
    sent = {"Content-Type": "application/json", "Content-Encoding": "gzip", **headers}
    assert site.client.port is not None
    connection = http.client.HTTPConnection(site.client.host, site.client.port, timeout=120)
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status
