"""Waits for what other processes do."""

import time
from collections.abc import Callable

from tests.patience import PATIENCE_S


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
