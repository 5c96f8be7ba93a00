"""Waits for what other processes do."""

import time
from collections.abc import Callable

SECONDS_MAX = 30


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
