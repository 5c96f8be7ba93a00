"""Stands between a browser and a service, and cuts their connections when a test says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

CHUNK_BYTES = 64 * 1024


class CutProxy:
    """Passes bytes on in both directions, and none while it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    def cut(self) -> None:
        """Breaks all connections, and every new one, until `mend`."""
        self._is_cut = True
        for each in self._writers:
            each.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection of the browser."""
        if self._is_cut:
            writer.transport.abort()
            return
        from_service, to_service = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, to_service}
        await asyncio.gather(_pass(reader, to_service), _pass(from_service, writer))
        self._writers -= {writer, to_service}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # a cut, by the test or by an end
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def cut_proxy(port: int) -> AsyncIterator[tuple[CutProxy, str]]:
    """Runs a proxy to this port of this machine; gives it and its address."""
    found = CutProxy(port)
    server = await asyncio.start_server(found.accept, "127.0.0.1", 0)
    host, own = server.sockets[0].getsockname()[:2]
    yield found, f"http://{host}:{own}"
    found.cut()
    server.close()
