"""Finds the device that a verified client certificate belongs to.

A certificate is a credential of a device that is registered and not decommissioned, and whose
project has a pattern that the certificate's names match. It registers nothing. The look-up is the
same for every certificate, project and device. Like a secret, it is looked up for every request: a
decommissioned device and a changed pattern take effect with the next request on every server.
"""

from collections.abc import Sequence

from firmtrail.access import settings
from firmtrail.access.lookup import NO_DEVICE, OWN_DEVICE, ResolvedCredential
from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database, Given, Statement
from firmtrail.rules.certificate import CertificateName, device_of

type _Key = tuple[str | None, str | None]
"""(project, device)"""

_FIND = """\
SELECT
    given.n,
    nullif(projects.log_id, 0),
    log_heads.control_count,
    CASE WHEN current.decommissioned = 0 THEN 1 ELSE 0 END,
    CASE
        WHEN current.recorded_position IS NOT NULL THEN 1
        WHEN seen.seen_at_ms > 0 THEN 1
        ELSE 0
    END
FROM given
LEFT JOIN projects ON projects.project = given.project
LEFT JOIN log_heads ON log_heads.log_id = projects.log_id
LEFT JOIN device_current AS current
    ON current.log_id = projects.log_id
    AND current.generation = (
        SELECT generation
        FROM views
        WHERE log_id = projects.log_id AND name = 'device_current')
    AND current.device = given.device
LEFT JOIN device_seen AS seen
    ON seen.project = given.project
    AND seen.device = given.device"""


class CertifiedDevices:
    """Looks up certificates against one database. It caches the pattern of each project for as long
    as the project's log has no new order."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lookups: Coalescer[_Key] = Coalescer(db, _find)
        self._patterns: dict[int, tuple[int, str | None]] = {}

    async def find(
        self, names: frozenset[CertificateName], project: str | None, device: str | None
    ) -> ResolvedCredential:
        """Returns whether the certificate with these names is the credential of this device."""
        [(log_id, count, is_registered, was_seen)] = await self._lookups.get((project, device))
        is_own = False
        if log_id is not None and project is not None:
            pattern = await self._pattern(log_id, project, count)
            is_named = pattern is not None and device_of(pattern, names) == device
            is_own = is_named and bool(is_registered)
        return ResolvedCredential(
            log_id=log_id,
            device_secret=OWN_DEVICE if is_own else NO_DEVICE,
            was_seen=was_seen,
        )

    async def _pattern(self, log_id: int, project: str, count: int) -> str | None:
        """Returns the pattern after at least `count` orders in the log."""
        known = self._patterns.get(log_id)
        if known is None or known[0] < count:
            found = (await settings.current(self._db, log_id, project)).certificate_pattern
            known = self._patterns[log_id] = (count, found)
        return known[1]


def _find(keys: Sequence[_Key]) -> Statement:
    rows = [(n, *key) for n, key in enumerate(keys)]
    return Statement(_FIND, (), Given("n bigint, project text, device text", rows))
