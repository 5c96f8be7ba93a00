"""Each place that reads entries says what it does with a stub, which may stand for one."""

import ast
import re

from tests.layers import PACKAGE

READS_ENTRIES = re.compile(r"\b(entry|ENTRY)\b[\s\S]*\b(FROM|JOIN)\s+events(_by_stream)?\b")

KNOWN = {
    "eventstore/log.py": "restored; the look-up by identity gives stubs to a script",
    "eventstore/replay.py": "restored",
    "eventstore/stored_events.py": "restored; as stored for an audit",
    "eventstore/free_texts.py": "restored",
    "eventstore/tree.py": "the hash is in the stub",
    "eventstore/short_streams.py": "streams that are no device's",
    "eventstore/moving.py": "the last entry of a log, which is never pruned",
    "audit/logs.py": "the last entry of a log, which is never pruned",
    "audit/rows.py": "streams that are no device's",
    "publishing/arrivals.py": "streams that are no device's",
    "commands/demo.py": "restored",
    "archive/pruned.py": "as stored",
    "schema/migrations/access.py": "older than stubs",
    "schema/migrations/subtrees.py": "older than stubs",
}


def texts(module: ast.Module) -> list[str]:
    """Returns the texts of a module; an f-string with its values as the code writes them."""
    parts = [each.values for each in ast.walk(module) if isinstance(each, ast.JoinedStr)]
    parts += [[each] for each in ast.walk(module) if isinstance(each, ast.Constant)]
    return ["".join(map(text, each)) for each in parts]


def text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else ast.unparse(part)


def test_every_module_that_reads_entries_is_known() -> None:
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for each in texts(ast.parse(file.read_text()))
        if READS_ENTRIES.search(each)
    }
    assert found == KNOWN.keys()
