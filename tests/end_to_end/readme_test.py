"""The README's first five minutes, run as they are written against a real server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.processes import ENVIRONMENT, Server

README = Path(__file__).parents[2] / "README.md"
PROGRAMS = Path(sys.executable).parent
WRITTEN_URL = "http://127.0.0.1:8080"
END = "--- end of a block ---"

BLOCK = re.compile(
    r"^```sh\n(?P<commands>.*?)^```\n(?:```text\n(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """Commands, and what they print: the block right behind, or nothing."""

    commands: str
    shown: str


def blocks() -> list[Block]:
    part = README.read_text().partition("## The first five minutes\n")[2].partition("\n## ")[0]
    return [Block(match["commands"], match["shown"] or "") for match in BLOCK.finditer(part)]


def shape(shown: str) -> re.Pattern[str]:
    """What is shown, with any text in the place of an ellipsis."""
    return re.compile('[^"]*'.join(map(re.escape, squeezed(shown).split("…"))))


def squeezed(text: str) -> str:
    """The README wraps long lines, so blanks and line ends don't count."""
    return "".join(text.split())


def run(script: str, folder: Path) -> str:
    """What a shell prints that stops at the first command that fails."""
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=ENVIRONMENT | {"PATH": f"{PROGRAMS}{os.pathsep}{ENVIRONMENT['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_readme_shows_what_its_commands_print(tmp_path: Path) -> None:
    written = blocks()
    assert written
    script = "".join(f"{block.commands}echo; echo '{END}'\n" for block in written)
    database, log = f"sqlite:///{tmp_path}/firmtrail.db", tmp_path / "log"
    with Server(database, log, "--demo") as server:
        printed = run(script.replace(WRITTEN_URL, server.url), tmp_path).split(END)
        for block, text in zip(written, printed[:-1], strict=True):
            assert shape(block.shown).fullmatch(squeezed(text)), f"{block.commands}\n{text}"
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0
