"""Files of checkpoints: what an auditor saw, kept for the next time.

One signed note behind the other. With one log that is a checkpoint as every tool takes it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from firmtrail.database import files
from firmtrail.publishing.checkpoint import BadNote, parse

_NOTE = re.compile(r".+?\n\n(?:\u2014 [^\n]*\n)+", re.DOTALL)


def read(path: Path) -> dict[str, str]:
    """origin -> note. Raises `BadNote` for a file that holds something else, and OSError."""
    text = path.read_text(encoding="utf-8", errors="replace")
    notes = _NOTE.findall(text)
    if not notes or "".join(notes) != text:
        raise BadNote(f"{path} holds no checkpoints")
    return {parse(note).origin: note for note in notes}


def write(path: Path, notes: Iterable[str]) -> None:
    """Put them in the file's place. Raises OSError, and the old ones are there."""
    files.replace(path, "".join(notes).encode())
