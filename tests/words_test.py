"""Docstrings, comments, messages and docs use plain English, and a docstring is a statement."""

import ast
import re
from pathlib import Path

import pytest

PROSE = ("firmtrail/**/*.py", "benchmarks/*.py", "docs/**/*.md", "*.md")
FILES = [file for each in PROSE for file in sorted(Path(__file__).parent.parent.glob(each))]
AVOIDED = re.compile(
    r"(?i)\b(told|tells?|beside|anew|(go(es|ing|ne)?|went)\s+on|by\s+(itself|themselves)|at\s+once|held|he|his"
    r"|him(self)?|whom|behind|holds?\s+against)\b|(^|[.;:]\s)(who|what)(ever)?\s[^?.;:]*[.;:]"
)
QUESTION = re.compile(r"(?i)(who|what|whose|which|whether|where|when|why|how)\b|[^.]*\?")
NO_PROSE = re.compile(r"(?s)```.*?```|`[^`]*`|\]\([^)]*\)")
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM)\b")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path)[-40:])
def test_a_file_is_written_in_plain_english(path: Path) -> None:
    source, is_code = path.read_text(), path.suffix == ".py"
    nodes = list(ast.walk(ast.parse(source if is_code else "")))
    texts = re.findall(r"\s# (.*)", source) if is_code else source.split("\n\n")
    texts += [str(each.value) for each in nodes if isinstance(each, ast.Constant)]
    named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = [ast.get_docstring(each) or "" for each in nodes if isinstance(each, named)]
    prose = [NO_PROSE.sub("", each) for each in texts if " " in each]
    assert [each for each in prose if AVOIDED.search(each) and not SQL.search(each)] == []
    assert [each for each in docstrings if QUESTION.match(NO_PROSE.sub("", each))] == []
