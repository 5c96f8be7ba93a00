"""Works with the service manager: takes over the sockets that it opened, and reports to it.

The protocol is that of sd_listen_fds(3) and sd_notify(3), which gunicorn implements. Without a
service manager, nothing here does anything.
"""

import asyncio
import socket

import structlog
from gunicorn import systemd

from firmtrail import environment

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

_log = structlog.get_logger("firmtrail")


def inherited_sockets() -> list[socket.socket]:
    """Returns the sockets that the service manager opened for this process (socket activation)."""
    first = systemd.SD_LISTEN_FDS_START
    found = [socket.socket(fileno=first + n) for n in range(systemd.listen_fds())]
    for each in found:
        each.set_inheritable(False)  # else the process that writes would keep it open
        each.settimeout(0)
    return found


def report(state: str) -> None:
    """Reports a state to the service manager, if it asks for that."""
    systemd.sd_notify(state, _log)


async def keep_reporting() -> None:
    """Reports that the event loop turns, twice in each interval that the service manager allows,
    until this is cancelled. Returns if it asks for no such reports."""
    interval_s = environment.watchdog_s()
    while interval_s is not None:
        report(ALIVE)
        await asyncio.sleep(interval_s / 2)
