"""Looks hosts up in threads of its own, of which there is a limited number.

The operating system looks a host up for as long as it likes, and can't be interrupted: some
seconds, if a name's servers are silent. The threads that the event loop shares are few, and
connections to the database need them too, so a name that people choose never takes one of those.
"""

import asyncio
import contextlib
import socket
from threading import Thread

LOOK_UPS_MAX = 64
"""Limits the hosts that are looked up at one time. One host takes one thread, however many callers
wait for it."""

type FoundAddress = tuple[int, str]
"""The family of an address, and the address."""


class TooManyLookUps(OSError):
    """So many look-ups have not ended that no other begins: try again later."""


class LookUps:
    """Looks hosts up for one process. The threads end with the process: nothing waits for them."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[list[FoundAddress]]] = {}

    async def addresses(self, host: str) -> list[FoundAddress]:
        """Returns the addresses of a host. Raises OSError if it is not found, and `TooManyLookUps`.
        A caller that stops waiting leaves the look-up to those that ask for the same host."""
        running = self._running.get(host)
        if running is None:
            if len(self._running) >= LOOK_UPS_MAX:
                raise TooManyLookUps("Too many hosts are being looked up. Try again later.")
            running = self._running[host] = self._begin(host)
        return await asyncio.shield(running)

    def _begin(self, host: str) -> asyncio.Future[list[FoundAddress]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[FoundAddress]] = loop.create_future()

        def end(found: list[FoundAddress] | OSError) -> None:
            del self._running[host]
            if isinstance(found, OSError):
                future.set_exception(found)
                future.exception()  # all callers may be gone, which is no bug
            else:
                future.set_result(found)

        def run() -> None:
            found = _look_up(host)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(end, found)

        Thread(target=run, name="look-up", daemon=True).start()
        return future


def _look_up(host: str) -> list[FoundAddress] | OSError:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError as error:
        return OSError(f"The host {host} can't be looked up: {error}")
    return list(dict.fromkeys((int(family), str(where[0])) for family, _, _, _, where in infos))
