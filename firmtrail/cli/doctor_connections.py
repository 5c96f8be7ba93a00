"""Checks file descriptors and connections, for `firmtrail doctor`.

The limit is that of a server which is started as this command was. A running server on an embedded
database reports over its socket what it has open and may have; with other databases, /metrics of
each server reports it.
"""

import resource
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client.parser import text_string_to_metric_families

from firmtrail import config
from firmtrail.cli.checks import Check
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.standby import lag_bytes
from firmtrail.exits import CouldNotRun
from firmtrail.http import descriptors
from firmtrail.http.gate import bounds

LIMIT_WANTED = 4096
"""With fewer, a server has fewer connections than one busy site of devices may open."""
NEARLY_ALL = 0.8
TIMEOUT_S = 2
BEHIND_BYTES = 64 * 1024**2
"""A standby that lacks more of the WAL has not followed for a while."""


def limit() -> Check:
    """Reports how many descriptors a server may have, and how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors.raise_limit()
    allowed = bounds().connections
    found = f"{hard} (soft limit {soft}, which `serve` raises): {allowed} connections per process"
    if hard >= LIMIT_WANTED:
        return Check("descriptors", "ok", found)
    advice = "Raise the hard limit (ulimit -Hn, or LimitNOFILE= of systemd)"
    return Check("descriptors", "warn", f"{found}. {advice}")


async def running(socket: Path) -> Check | None:
    """Reports what the running server has open; returns None if no server answers."""
    try:
        values = await _metrics(socket)
    except (ClientError, OSError, TimeoutError):
        return None
    connections, connections_max = values["connections"], values["connections_max"]
    files, files_max = values["open_descriptors"], values["descriptors_max"]
    found = (
        f"the running server has {connections} of {connections_max} client connections and "
        f"{files} of {files_max} descriptors open"
    )
    is_well = max(connections / connections_max, files / files_max) < NEARLY_ALL
    return Check("connections", "ok" if is_well else "warn", found)


async def standby(primary: Database, read_database: config.Cluster) -> Check:
    """Reports whether reads can come from the standby, and how far it is."""
    from firmtrail.cli.cluster import opened_standby  # noqa: PLC0415 (a file needs no driver)

    try:
        async with opened_standby(read_database, primary, "transaction") as chosen:
            behind = await lag_bytes(primary, chosen.standby)
    except CouldNotRun as error:
        return Check("read database", "fail", str(error))
    except Unavailable as error:
        found = f"{read_database} does not answer ({error}): the database answers all reads"
        return Check("read database", "warn", found)
    if behind > BEHIND_BYTES:
        found = f"has not replayed {behind} bytes of the WAL: it may not follow the database"
        return Check("read database", "warn", f"{read_database} {found}")
    return Check("read database", "ok", f"{read_database} follows the database")


async def _metrics(socket: Path) -> dict[str, int]:
    connector, timeout = UnixConnector(str(socket)), ClientTimeout(total=TIMEOUT_S)
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
