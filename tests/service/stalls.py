"""Measures how long an event loop stands still."""

import asyncio
import gc
import gzip
import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.service.site import Site

STALL_S_MAX = 0.05


def array(item: bytes, count: int) -> bytes:
    return b"[" + b",".join([item] * count) + b"]"


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
    """Measures the longest time for which the event loop is occupied without a break."""

    longest_s = 0.0

    async def look(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            self.longest_s = max(self.longest_s, time.thread_time() - began)


def send(site: Site, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Sends from a separate thread, so that the client does not occupy the loop."""
    sent = {"Content-Type": "application/json", "Content-Encoding": "gzip", **headers}
    assert site.client.port is not None
    connection = http.client.HTTPConnection(site.client.host, site.client.port, timeout=120)
    connection.request(method, path, gzip.compress(body, 1), sent)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def bound_s() -> float:
    return max(STALL_S_MAX, 5 * max(known_work_s() for _ in range(5)))
