"""Handles the signals that a server gets.

TERM and INT drain it and end it, QUIT ends it without waiting for requests, and HUP reads the TLS
certificate again. Other signals that would end or stop a process silently are ignored: a server
ends only by a signal that it logs.
"""

import asyncio
import signal
from collections.abc import Callable

import structlog

ENDING = (signal.SIGTERM, signal.SIGINT)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)

_log = structlog.get_logger("firmtrail")


class StopSignals:
    """Holds the signals to stop that one process has received."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set by a second signal to stop, or by QUIT: the process waits no longer before it
        ends."""
        self.is_immediate = False
        """QUIT was received: requests that are being answered are abandoned."""

    def receive(self, number: signal.Signals) -> None:
        """Records a signal to stop."""
        if number is signal.SIGQUIT:
            self.is_immediate = True
        if self.is_immediate or self.stop.is_set():
            self.hurry.set()
        _log.info("stopping", signal=number.name)
        self.stop.set()

    async def delay(self, seconds: float) -> None:
        """Waits, until there is a second signal to stop."""
        if seconds and not self.hurry.is_set():
            _log.info("draining", seconds=seconds)
            try:
                await asyncio.wait_for(self.hurry.wait(), seconds)
            except TimeoutError:
                return


def stop_signals(on_hangup: Callable[[], None]) -> StopSignals:
    """Handles this process's signals from this call on."""
    loop, received = asyncio.get_running_loop(), StopSignals()
    for number in (*ENDING, signal.SIGQUIT):
        loop.add_signal_handler(number, received.receive, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    for number in IGNORED:
        loop.add_signal_handler(number, ignore, number)
    return received


def ignore(number: signal.Signals) -> None:
    """Logs a signal that has no meaning to a server."""
    _log.info("signal ignored", signal=number.name)


def nothing_to_reload() -> None:
    """Logs that HUP has no meaning without TLS."""
    _log.info("there is nothing to reload: this server has no TLS certificate")
