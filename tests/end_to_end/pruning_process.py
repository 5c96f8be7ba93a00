"""Runs `firmtrail` two days later, on logs so short that all of them may be pruned: `python -m`.

Each file of the archive takes a moment, so that the process can be killed between two steps.
"""

import time
from types import SimpleNamespace

from firmtrail.archive import prune
from firmtrail.archive.stores import FolderStore
from firmtrail.cli import archive
from firmtrail.main import main

FILE_S = 0.4
LATER_S = 2 * 24 * 60 * 60


class SlowFolder(FolderStore):
    """A folder on a slow disk."""

    def _get(self, name: str) -> bytes | None:
        time.sleep(FILE_S)
        return super()._get(name)


if __name__ == "__main__":
    later_s = time.time() + LATER_S
    vars(archive)["time"] = SimpleNamespace(time=lambda: later_s)
    vars(archive)["store_at"] = SlowFolder
    prune.KEPT_ENTRIES, prune.STEP_BUNDLES = 0, 1
    main()
