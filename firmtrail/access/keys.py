"""Reads the keys that all servers of one database share.

A migration makes each key at random, and nothing ever changes it, so a process reads it once.
"""

from firmtrail.database.database import Database, Statement

CURSORS = "cursors"
"""Names the key of the checksums over list cursors."""

DOWNLOADS = "downloads"
"""Names the key of the signatures of download URLs."""

_READ = "SELECT key FROM shared_keys WHERE name = $1"


class Keys:
    """Caches the keys that this process has read."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes:
        """Returns the key of this name. Raises `Unavailable` if it can't be read."""
        if name not in self._known:
            [[key]] = await self._db.read(Statement(_READ, (name,)))
            self._known[name] = str(key).encode()
        return self._known[name]
