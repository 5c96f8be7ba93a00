"""Lets a request use the views of a log: makes them live first if they are only prepared.

The endpoint calls this for all routes but those that read only the log, and those whose handlers
read the request themselves: such a handler calls it once the caller may use the project, before it
reads a view.
"""

from firmtrail.database.database import Unavailable
from firmtrail.http.call import Services

RETRY_AFTER_S = 10

_BEING_REBUILT = "A view is being rebuilt for this version of the server."
_FAILED = "A view could not be rebuilt for this version: the server's own log says why."
_NOT_REBUILT = "The views are not in the form of this version: run `firmtrail rebuild` first."


async def take_over(services: Services, log_id: int) -> None:
    """Makes the views of the log live if they are prepared for this version. Raises
    `Unavailable`."""
    if log_id in services.builder.prepared:
        await services.builder.take_over(log_id)


async def require(services: Services, log_id: int) -> None:
    """Takes over as `take_over`. Raises `Unavailable` if this version can't read the views."""
    await take_over(services, log_id)
    if log_id in services.builder.unfit:
        raise Unavailable(_reason(services, log_id), RETRY_AFTER_S)


def _reason(services: Services, log_id: int) -> str:
    if log_id in services.builder.failed:
        return _FAILED
    return _BEING_REBUILT if services.serving.continues_rebuilds else _NOT_REBUILT
