"""Checks, in the database itself and after the servers ended, that it contains the whole log.

The tree's root is recomputed here from RFC 6962, section 2.1, as it is written there, and not by
the code that is tested.
"""

from collections.abc import Sequence
from hashlib import sha256

from firmtrail.eventstore import log, merkle
from tests.databases import opened
from tests.end_to_end.site import Site
from tests.replay import differences


async def untruths(site: Site) -> list[str]:
    """Returns what is wrong with the log, its tree and its views."""
    async with opened(site.database) as db:
        head = await log.head(db, site.log_id)
        pages = [page async for page in log.read(db, site.log_id, 0, head.size)]
        texts = [text for page in pages for _, _, text in page]
        found = await differences(db, site.log_id)
    if merkle.root(head.frontier) != root([text.encode() for text in texts]):
        found.append(f"the frontier is not that of the {head.size} entries")
    return found


def root(entries: Sequence[bytes]) -> bytes:
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1 << (len(entries) - 1).bit_length() - 1
    return sha256(b"\x01" + root(entries[:split]) + root(entries[split:])).digest()
