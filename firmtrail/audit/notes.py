"""Reads and writes files of checkpoints, which an auditor keeps from one audit to the next.

Such a file holds one signed note after another. The file of a single log is a checkpoint that every
tool reads.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from firmtrail.database import files
from firmtrail.publishing.checkpoint import BadNote, parse

_NOTE = re.compile(r".+?\n\n(?:\u2014 [^\n]*\n)+", re.DOTALL)


def read(path: Path) -> dict[str, str]:
    """Returns origin -> note. Raises `BadNote` if the file holds anything else, and OSError."""
    text = path.read_text(encoding="utf-8", errors="replace")
    notes = _NOTE.findall(text)
    if not notes or "".join(notes) != text:
        raise BadNote(f"{path} holds no checkpoints")
    return {parse(note).origin: note for note in notes}


def write(path: Path, notes: Iterable[str]) -> None:
    """Replaces the file with these notes. Raises OSError: then the file has its old content."""
    files.replace(path, "".join(notes).encode())
