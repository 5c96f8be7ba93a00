"""Defines scripts that tests send to a process that writes a file."""

import os
import signal
from pathlib import Path
from typing import override

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


def malloc_settings() -> Script[str | None]:
    yield []
    return os.environ.get("GLIBC_TUNABLES")


def heap_flags() -> Script[list[str]]:
    """Returns the kernel's flags of the heap of the process (proc_pid_smaps(5), VmFlags)."""
    yield []
    parts = Path("/proc/self/smaps").read_text().split("[heap]")
    return parts[1].split("VmFlags:")[1].splitlines()[0].split()


class Unreadable:
    """Can be packed, and can't be unpacked."""

    @override
    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("x",)


def unreadable() -> Script[object]:
    yield []
    return Unreadable()


def unpackable() -> Script[object]:
    yield []
    return lambda: None
