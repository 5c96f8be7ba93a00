"""Reads the state of a process's queues for its metrics: every few seconds, and for each scrape.

Several workers share their metrics, so each keeps its own part current whichever answers.
"""

import asyncio

from firmtrail.http.call import Services
from firmtrail.http.work_metrics import WorkState

EVERY_S = 5


async def keep_observing(services: Services) -> None:
    """Keeps the metrics of the queues current, until it is cancelled."""
    while True:
        observe(services)
        await asyncio.sleep(EVERY_S)


def observe(services: Services) -> None:
    """Takes over the state of the queues as it is."""
    connections, standby = services.db.connections, services.standby
    services.metrics.work.observe(
        WorkState(
            waiting_commands=services.recorder.unanswered,
            bcrypt_waiting=services.access.hasher.waiting,
            rejected=services.access.hasher.rejected,
            open_requests={
                "stream": services.limits.streams.open,
                "replay": services.limits.replays.open,
                "device_wait": services.limits.device_waits.open,
                "person_wait": services.limits.people_waits.open,
                "upload": services.limits.uploads.open,
            },
            connections=connections.open,
            busy_connections=connections.busy,
            followings=services.followings,
            standby_lag_s=None if standby is None else standby.lag_s,
            answered=standby.answered if standby else {},
        )
    )
