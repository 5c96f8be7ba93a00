"""Tests how modules are imported."""

import sys
from pathlib import Path

import pytest

from firmtrail.database import collector

INTERRUPTED = """\
import signal
import threading

signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
is_whole = True
"""


def test_an_interrupt_takes_effect_after_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_import.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        collector.imported("interrupted_import")
    assert sys.modules.pop("interrupted_import").is_whole
