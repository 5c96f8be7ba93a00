"""Handles the signals that a server gets.

TERM and INT drain it and end it, QUIT ends it without waiting for requests, HUP reads the TLS
certificate again. The others that would end or stop a process without a word are ignored: a server
ends by an order that it logs, or not at all.
"""

import asyncio
import signal
from collections.abc import Callable

import structlog

ENDING = (signal.SIGTERM, signal.SIGINT)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)

_log = structlog.get_logger("firmtrail")


class Orders:
    """The orders to stop that have come, for one process."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set by a second order to stop, or by QUIT: waits before the end are over."""
        self.is_immediate = False
        """QUIT came: requests that are being answered are given up."""

    def take(self, number: signal.Signals) -> None:
        """Note an order to stop."""
        if number is signal.SIGQUIT:
            self.is_immediate = True
        if self.is_immediate or self.stop.is_set():
            self.hurry.set()
        _log.info("stopping", signal=number.name)
        self.stop.set()

    async def delay(self, seconds: float) -> None:
        """Wait, unless there is a second order to stop."""
        if seconds and not self.hurry.is_set():
            _log.info("draining", seconds=seconds)
            try:
                await asyncio.wait_for(self.hurry.wait(), seconds)
            except TimeoutError:
                return


def orders(on_hangup: Callable[[], None]) -> Orders:
    """Take this process's signals, from here on."""
    loop, found = asyncio.get_running_loop(), Orders()
    for number in (*ENDING, signal.SIGQUIT):
        loop.add_signal_handler(number, found.take, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    for number in IGNORED:
        loop.add_signal_handler(number, ignore, number)
    return found


def ignore(number: signal.Signals) -> None:
    """Log a signal that has no meaning here."""
    _log.info("signal ignored", signal=number.name)


def nothing_to_reload() -> None:
    """Log that HUP has no meaning without TLS."""
    _log.info("there is nothing to read again: this server has no TLS certificate")
