"""Looks at file descriptors and connections, for `firmtrail doctor`.

The limit is that of a server which is started as this command was. A running server on an embedded
database is asked over its socket for what it has and may have; of others, /metrics says so.
"""

import resource

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client.parser import text_string_to_metric_families

from firmtrail import config
from firmtrail.http import descriptors
from firmtrail.http.gate import bounds

LIMIT_WANTED = 4096
"""Below so many, a server has fewer connections than one busy site of devices may open."""
NEARLY_ALL = 0.8
TIMEOUT_S = 2

type Found = tuple[bool, str]
"""Whether it is well, and what was found."""


def limit() -> Found:
    """Says how many descriptors a server may have, and how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors.raise_limit()
    allowed = bounds().connections
    found = f"{hard} (soft limit {soft}, which `serve` raises): {allowed} connections a process"
    if hard >= LIMIT_WANTED:
        return True, found
    return False, f"{found}. Raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd)"


async def running(database: config.Embedded) -> Found | None:
    """Says what the running server has open; None where there is none that answers."""
    try:
        values = await _metrics(database)
    except (ClientError, OSError, TimeoutError):
        return None
    connections, connections_max = values["connections"], values["connections_max"]
    files, files_max = values["open_descriptors"], values["descriptors_max"]
    found = (
        f"the running server has {connections} of {connections_max} client connections and "
        f"{files} of {files_max} descriptors"
    )
    return max(connections / connections_max, files / files_max) < NEARLY_ALL, found


async def _metrics(database: config.Embedded) -> dict[str, int]:
    connector, timeout = UnixConnector(str(database.socket)), ClientTimeout(total=TIMEOUT_S)
    async with (
        ClientSession("http://localhost", connector=connector, timeout=timeout) as session,
        session.get("/metrics") as answer,
    ):
        families = text_string_to_metric_families(await answer.text())
        return {
            family.name.removeprefix("firmtrail_"): int(family.samples[0].value)
            for family in families
            if family.samples and family.type == "gauge"
        }
