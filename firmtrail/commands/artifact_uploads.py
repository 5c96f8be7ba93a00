"""Keeps bytes that arrived before anyone said to which release they belong.

Publishing tools of others send a file first, and name its release afterwards. A row stands for one
such file, from the announcement of its size until a day later. Its bytes are in the store of
artifacts under their digest; bytes that no release names stay there, as those of any upload whose
process ended in between.
"""

from msgspec import Struct

from firmtrail.access import credentials
from firmtrail.database.database import Database, Statement

KEPT_S = 24 * 3600
"""An announced upload that no release names is forgotten after this time."""

_ANNOUNCE = """\
INSERT INTO artifact_uploads (project, upload_id, created_at_ms, size_bytes)
VALUES ($1, $2, $3, $4)"""

_FORGET = """\
DELETE FROM artifact_uploads
WHERE project = $1 AND created_at_ms < $2"""

_ARRIVED = """\
UPDATE artifact_uploads
SET sha256 = $3, sha1 = $4, md5 = $5
WHERE project = $1 AND upload_id = $2"""

_FIND = """\
SELECT size_bytes, sha256, sha1, md5
FROM artifact_uploads
WHERE project = $1 AND upload_id = $2"""


class AnnouncedUpload(Struct, frozen=True):
    """Holds the size of announced bytes, and their digests, in hex, once they have arrived."""

    size_bytes: int
    sha256: str | None
    sha1: str | None
    md5: str | None


async def announce(db: Database, project: str, size_bytes: int, now_ms: int) -> str:
    """Returns the id of a new upload of this size, and forgets old ones."""
    upload_id = credentials.new_id("a")
    async with db.transaction() as tx:
        await tx.run(
            Statement(_FORGET, (project, now_ms - KEPT_S * 1000)),
            Statement(_ANNOUNCE, (project, upload_id, now_ms, size_bytes)),
        )
    return upload_id


async def arrived(
    db: Database, project: str, upload_id: str, digests: tuple[str, str, str]
) -> None:
    """Stores the SHA-256, SHA-1 and MD5 of the bytes, which are in the store already."""
    async with db.transaction() as tx:
        await tx.run(Statement(_ARRIVED, (project, upload_id, *digests)))


async def find(db: Database, project: str, upload_id: str) -> AnnouncedUpload | None:
    """Returns the upload; None if it was never announced, or is forgotten."""
    rows = await db.read(Statement(_FIND, (project, upload_id)))
    return AnnouncedUpload(*rows[0]) if rows else None
