"""Seals access records: before an auditor gets a checkpoint, and daily.

A log that takes no appends cannot hold a seal. The auditor gets the checkpoint anyway, and the next
attempt seals.
"""

import asyncio

import structlog
from aiohttp import hdrs

from firmtrail.access import reads
from firmtrail.commands.access_record import seal
from firmtrail.database.database import Unavailable
from firmtrail.http import live_views
from firmtrail.http.call import AnyCall, Services
from firmtrail.publishing.publisher import Publisher

EVERY_S = 3600
AGE_MS_MAX = 23 * 3600 * 1000
"""Limits the age of an unsealed row; together with `EVERY_S` it makes a day."""

PUBLISHED_WAIT_S = 5

_log = structlog.get_logger("firmtrail.http")


async def before_checkpoint(call: AnyCall, publisher: Publisher) -> None:
    """Seals the access record if it has grown, and waits until a checkpoint covers the seal. Where
    the checkpoint is public, a false credential causes at most one seal for each recorded read."""
    services = call.services
    is_auditor = call.caller.kind != "nobody" or hdrs.AUTHORIZATION in call.request.headers
    if not is_auditor or not await services.reads.has_grown(call.project):
        return
    try:
        await live_views.take_over(services, call.log_id)
        size = await services.recorder.act(call.log_id, seal())
        async with asyncio.timeout(PUBLISHED_WAIT_S):
            await publisher.served.covering(call.log_id, size)
    except (Unavailable, TimeoutError) as error:
        _log.warning("not sealed", project=call.project, reason=repr(error))


async def keep_sealing(services: Services) -> None:
    """Seals, until it is cancelled, every record with a row that has waited for a day."""
    while True:
        try:
            await seal_old(services, services.access.now_ms() - AGE_MS_MAX)
        except Unavailable as error:
            _log.warning("not sealed", reason=repr(error))
        await asyncio.sleep(EVERY_S)


async def seal_old(services: Services, before_ms: int) -> None:
    """Seals every record whose first unsealed row is older than this time."""
    for log_id in await reads.logs_to_seal(services.db, before_ms):
        try:
            await services.recorder.act(log_id, seal())
        except Unavailable as error:
            _log.warning("not sealed", log_id=log_id, reason=repr(error))
