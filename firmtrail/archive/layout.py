"""Names the files of an archive, and reads the log in it as any audit reads a log.

The log N of a project P is below `P/logs/N`, by the paths of C2SP tlog-tiles. That is the layout of
an export, so everything that reads an export reads an archive.
"""

from firmtrail.archive.stores import ArchiveStore
from firmtrail.audit.export import LOGS
from firmtrail.audit.source import Missing
from firmtrail.publishing.minimum_sizes import LogName


def folder_of(name: LogName) -> str:
    """Returns the folder of a log in the archive."""
    return f"{name.project}/{LOGS}/{name.number}"


class ArchiveSource:
    """Reads a log of an archive, for an audit: a `Source`."""

    def __init__(self, store: ArchiveStore, folder: str = "") -> None:
        self._store = store
        self._folder = folder

    def __str__(self) -> str:
        return f"{self._store}/{self._folder}" if self._folder else str(self._store)

    async def get(self, path: str) -> bytes:
        found = await self._store.get(f"{self._folder}/{path}" if self._folder else path)
        if found is None:
            raise Missing(path)
        return found
