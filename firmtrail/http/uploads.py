"""Receives the bytes of artifacts, in whatever protocol they come, and adds them to releases.

An upload is hashed as it arrives, and is added to its release only after it is stored durably. One
that is cut off, too large, or different from its digest leaves nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from firmtrail.artifacts import Upload
from firmtrail.commands import releases as commands
from firmtrail.events.fleet import ArtifactAdded
from firmtrail.http import errors, incoming, respond
from firmtrail.http.call import AnyCall
from firmtrail.http.downloads import store_of
from firmtrail.projections import releases
from firmtrail.rules import mender_file, release
from firmtrail.rules.release import ReleaseKey

UPLOAD_IDLE_S = 30
"""Limits the time without a byte of an upload."""

UPLOAD_S = 6 * 3600
"""Limits the time of a whole upload."""

type ReadChunk = Callable[[], Awaitable[bytes]]
"""Returns the next bytes of an artifact; none at its end."""


@contextlib.asynccontextmanager
async def received(call: AnyCall, read: ReadChunk | None = None) -> AsyncIterator[Upload]:
    """Stores an artifact as it arrives: the whole body, or what `read` returns of it. Unless the
    block keeps it, it is deleted after the block."""
    store = store_of(call)
    with call.services.limits.uploads.enter(call.caller):
        await incoming.let_continue(call.request)
        chunks = _chunks(call, read or call.request.content.readany)
        async with store.received(chunks) as upload:
            if upload.size_bytes == 0:
                raise errors.Invalid("The artifact is empty; send at least one byte.")
            yield upload


async def add(call: AnyCall, key: ReleaseKey, name: str, upload: Upload) -> bool:
    """Makes the bytes durable, then records them; returns whether the release lacked them. Raises
    `Refused` if the release has other bytes under the name."""
    wanted = added(name, upload)
    release.decide_artifact(await releases.live(call.services.db, call.log_id), key, wanted)
    await store_of(call).keep(upload)
    add = commands.add_artifact(key, wanted, actor=call.caller.actor)
    return await call.services.recorder.act(call.log_id, add)


def added(name: str, upload: Upload) -> ArtifactAdded:
    """Returns the event of a file that has arrived."""
    facts = mender_file.read(upload.head)
    return ArtifactAdded(
        name,
        upload.size_bytes,
        upload.sha256,
        sha1=upload.digests.sha1,
        md5=upload.digests.md5,
        provides_name=facts.provides_name if facts else None,
        device_types=facts.device_types if facts else (),
    )


def too_large(call: AnyCall) -> errors.TooLarge:
    bytes_max = call.services.serving.artifact_bytes_max
    return errors.TooLarge(f"An artifact has at most {bytes_max} bytes.")


async def _chunks(call: AnyCall, read: ReadChunk) -> AsyncIterator[bytes]:
    """Yields the bytes as they arrive. Raises the problem that ends them early."""
    size_bytes, limit = 0, _TimeLimit(call.services.serving.write_timeout_s)
    try:
        while chunk := await _chunk(read, limit.due_at()):
            size_bytes += len(chunk)
            limit.arrived(len(chunk))
            if size_bytes > call.services.serving.artifact_bytes_max:
                raise too_large(call)
            yield chunk
    except TimeoutError:
        raise errors.RequestTimeout("The body did not arrive in time.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise errors.BadRequest("The connection broke before the body was complete.") from None


class _TimeLimit:
    """Limits the time of an upload: `WRITE_BYTES` have to arrive in each span of seconds."""

    def __init__(self, span_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._span_s = span_s
        self._ends_at = self._now() + UPLOAD_S
        self._begin_span()

    def _begin_span(self) -> None:
        self._span_bytes = 0
        self._span_ends_at = self._now() + self._span_s

    def arrived(self, count: int) -> None:
        self._span_bytes += count
        if self._span_bytes >= respond.WRITE_BYTES:
            self._begin_span()

    def due_at(self) -> float:
        """Returns the time at which the next bytes have to be here."""
        return min(self._ends_at, self._span_ends_at, self._now() + UPLOAD_IDLE_S)


async def _chunk(read: ReadChunk, due_at: float) -> bytes:
    """Returns the next bytes. Each has its own time limit, because the store may read each in
    another task."""
    async with asyncio.timeout_at(due_at):
        return await read()
