"""Defines scripts that tests send to a process that writes a file."""

import os
import signal

from firmtrail.database.database import Script, Statement

SEEN = "INSERT INTO device_seen (project, device, seen_at_ms) VALUES ('acme', $1, 0)"
COUNT = "SELECT count(*) FROM device_seen"


def seeing(device: str) -> Script[str]:
    yield [Statement(SEEN, (device,))]
    return device.upper()


def dying(device: str) -> Script[None]:
    yield [Statement(SEEN, (device,))]
    os.kill(os.getpid(), signal.SIGKILL)


def process_id() -> Script[int]:
    yield []
    return os.getpid()
