"""Runs `firmtrail` with workers that take long to start, before and after they set their handlers
of signals: `python -m`. The file that FIRMTRAIL_TEST_STARTING names gets the id of each process."""

import os
import time
from pathlib import Path
from typing import override

from firmtrail.cli import workers
from firmtrail.cli.workers import Worker
from firmtrail.main import main

DELAY_S = 3.0


def _delay() -> None:
    with Path(os.environ["FIRMTRAIL_TEST_STARTING"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(DELAY_S)


class SlowWorker(Worker):
    """Waits in one of the two places."""

    @override
    def init_signals(self) -> None:
        is_before = "before" in os.environ["FIRMTRAIL_TEST_STARTING"]
        if is_before:
            _delay()
        super().init_signals()
        if not is_before:
            _delay()


if __name__ == "__main__":
    vars(workers)["Worker"] = SlowWorker
    main()
