"""A folder as an archive: what is in it may be wrong, and it may not answer."""

import asyncio
import threading
from pathlib import Path
from typing import override

import pytest

from firmtrail.archive import stores
from firmtrail.archive.stores import FolderStore
from tests.patience import PATIENCE_S


async def test_a_file_that_is_larger_than_any_of_a_log_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "FILE_BYTES_MAX", 10)
    store = FolderStore(tmp_path)
    await store.add("small", b"0123456789")
    assert await store.get("small") == b"0123456789"
    (tmp_path / "large").write_bytes(b"0123456789a")
    with pytest.raises(OSError, match="larger than any file of a log"):
        await store.get("large")


class SilentFolder(FolderStore):
    """A network folder that does not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers = threading.Event()

    @override
    def _get(self, name: str) -> bytes | None:
        self.answers.wait()
        return super()._get(name)


async def test_a_folder_that_does_not_answer_keeps_no_other_work_waiting(tmp_path: Path) -> None:
    store = SilentFolder(tmp_path)
    reads = [asyncio.create_task(store.get(str(n))) for n in range(100)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.to_thread(int, "7") == 7
        assert not any(each.done() for each in reads)
    finally:
        store.answers.set()
    assert await asyncio.gather(*reads) == [None] * 100
