"""Carries a client's connections to a server, and breaks them off as a bad network does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


async def _nothing() -> None:
    pass


class Network:
    """Carries connections to a server, which can be away; it can break off one answer."""

    def __init__(self, port: int) -> None:
        self.leads_to = port
        """The port of the server to which new connections are carried."""
        self._is_away = False
        self._open: set[asyncio.StreamWriter] = set()
        self.cut_after_bytes: int | None = None
        """Breaks off the next connection that brings more than this from now on, once."""
        self.before_a_cut: Callable[[], Awaitable[None]] = _nothing
        """Holds the answer back until this has returned."""
        self.stays_away_after_a_cut = False
        self.cuts = 0
        self.refused = 0
        """The connections that came while the server was away."""
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Network"]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            self.leave()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Breaks off all connections, and takes none while the block runs."""
        self.leave()
        yield
        self.come_back()

    def leave(self) -> None:
        self._is_away = True
        for each in self._open:
            each.transport.abort()

    def come_back(self) -> None:
        self._is_away = False

    def lead_to(self, port: int) -> None:
        """Carries connections to another server from now on, and breaks off those that are open."""
        self.leads_to = port
        with self.away():
            pass

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError):
            if self._is_away:
                self.refused += 1
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self.leads_to)
                ways = {
                    asyncio.create_task(self._pump(reader, back)),
                    asyncio.create_task(self._pump(there, writer, may_cut=True)),
                }
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                back.transport.abort()
        self._open.discard(writer)
        writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, may_cut: bool = False
    ) -> None:
        carried = 0
        with contextlib.suppress(ConnectionError):
            while data := await source.read(4096):
                sink.write(data)
                await sink.drain()
                if not may_cut or self.cut_after_bytes is None:
                    continue
                carried += len(data)
                if carried > self.cut_after_bytes:
                    await self._cut()
                    return

    async def _cut(self) -> None:
        self.cut_after_bytes = None
        await self.before_a_cut()
        self.cuts += 1
        if self.stays_away_after_a_cut:
            self.leave()
