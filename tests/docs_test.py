"""Compares docs/ with the code: limits, error codes, settings, commands, files, generated parts."""

import ast
import importlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest

from firmtrail import __version__
from firmtrail.http.attention import NoteKind
from firmtrail.main import main
from firmtrail.rules.settings import Settings
from tests.docs import DOCS, PARTS, written
from tests.layers import LAYERS, PACKAGE, modules

ROOT = DOCS.parent
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
DECISIONS = sorted(DOCS.glob("decisions/0*.md"))
PAGES = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md")} - {*DECISIONS})
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text() for path in PAGES if path.name != "CHANGELOG.md"
}
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "ms": 0.001, "min": 60, "h": 3600, "days": 86400}
OPTIONS_OF_OTHERS = {
    *("--version", "--format"),  # click's own, pg_dump's and podman's
    *("--build-arg", "--enable-optimizations", "--with-lto"),
    *(
        "--continue-at",
        "--hardware-version",
        "--deactivate",
        "--must-pass-through",
        "--token-value",
    ),
}


def rows(page: str) -> Iterator[list[str]]:
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def quantities(text: str) -> set[float]:
    found = re.findall(r"(\d+(?: \d{3})*(?:\.\d+)?)(?: (\w+))?", text)
    return {float(number.replace(" ", "")) * UNITS.get(unit, 1) for number, unit in found}


def value(room: str, name: str) -> float:
    """Returns a constant in bytes or seconds; a room with two of this name needs its file too."""
    file, _, name = name.rpartition(".")
    there = [each for each in modules() if each.split(".")[0] == room and "migrations" not in each]
    homes = [each for each in there if not file or each.rpartition(".")[2] == file]
    imported = [importlib.import_module(f"firmtrail.{each}") for each in homes]
    found: set[float] = {vars(each)[name] for each in imported if name in vars(each)}
    assert len(found) == 1, f"{room} has {len(found)} constants {name}"
    parts = name.split("_")
    return found.pop() * (0.001 if "MS" in parts else 1024 if "KIB" in parts else 1)


def limits() -> Iterator[tuple[str, str, str]]:
    for what, limit, place in (row for row in rows("limits.md") if len(row) == 3):
        for room, names in re.findall(r"`(\w+)`((?: `[\w.]+`)*)", place):
            yield from ((f"{what}: {limit}", room, name) for name in re.findall(r"[\w.]+", names))


@pytest.mark.parametrize(("text", "room", "name"), [*limits()])
def test_a_documented_limit_equals_its_constant(text: str, room: str, name: str) -> None:
    assert value(room, name) in quantities(text)


NAMED = [
    (name, text, section)
    for name, page in TEXTS.items()
    for text, section in re.findall(r"\[([^\]]*\d[^\]]*)\]\((?:docs/)?limits\.md#([\w-]+)\)", page)
]


@pytest.mark.parametrize(("page", "text", "section"), NAMED)
def test_a_limit_that_another_page_names_is_that_of_the_table(
    page: str, text: str, section: str
) -> None:
    parts = (DOCS / "limits.md").read_text().split("\n## ")
    heads = {re.sub(r"[^\w ]", "", each.partition("\n")[0]).lower(): each for each in parts}
    assert quantities(text) <= quantities(heads[section.replace("-", " ")]), page


def codes_in(module: str, tree: ast.AST) -> Iterator[str]:
    """Yields the codes of `Refused(code, …)`, of `code=…`, and of classes of errors."""
    named = vars(importlib.import_module(f"firmtrail.{module}"))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Refused"), args=[ast.Constant(str(code)), *_]):
                yield code
            case ast.Call(func=ast.Name(id="Refused"), args=[ast.Name(id=name), *_]) if (
                name.isupper()
            ):
                yield named[name]
            case ast.Call(args=[_, _, ast.Constant("log_refused" as code)]):
                yield code
            case ast.keyword(arg="code", value=ast.Constant(str(code))):
                yield code
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(str(code))):
                yield code


def test_the_table_of_error_codes_lists_every_code_that_is_raised() -> None:
    raised = {
        code
        for module, tree in modules().items()
        if module.split(".")[0]
        in {"application", "commands", "http", "protocols", "recording", "rules"}
        for code in codes_in(module, tree)
    }
    documented = {code for row in rows("errors.md") for code in re.findall(r"`(\w+)`", row[1])}
    assert documented == raised


@pytest.mark.parametrize(("page", "name"), [*PARTS])
def test_the_generated_parts_are_current(page: str, name: str) -> None:
    assert (DOCS / page).read_text() == written(page, name), "run make docs"


def test_every_room_is_described() -> None:
    described = (DOCS / "architecture.md").read_text().partition("## Imports")[0]
    rooms = [room.replace(".", "/") for room in LAYERS if "__" not in room]
    assert not [room for room in rooms if not re.search(rf"`{room}(/|\.py)`", described)]


def test_every_setting_of_a_project_is_described_with_its_default() -> None:
    documented = {row[0]: row[1] for row in rows("settings.md") if len(row) == 3}
    for name, default in msgspec.to_builtins(Settings()).items():
        assert documented[f"`{name}`"] == f"`{msgspec.json.encode(default).decode()}`"


def test_the_version_is_the_newest_of_the_changelog() -> None:
    [newest, *_] = re.findall(r"^## \[(\d.*)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert newest == __version__ == project["version"]


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=lambda page: page.stem)
def test_every_link_leads_to_a_page_and_its_title(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_whether_it_holds(page: Path) -> None:
    title, blank, status, *_ = page.read_text().split("\n", 3)
    assert title.startswith(f"# {page.name[:4]} ") and not blank
    assert re.match(r"Status: (accepted|proposed|superseded by \[\d{4}\])", status)
    assert f"({page.name})" in (page.parent / "README.md").read_text()


@pytest.mark.parametrize("page", [*TEXTS])
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    names = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", TEXTS[page])
    assert not [name for name in names if not ((PACKAGE / name).exists() or (ROOT / name).exists())]


def commands(group: click.Command = main, name: str = "firmtrail") -> dict[str, click.Command]:
    found = {name: group}
    if isinstance(group, click.Group):
        context = click.Context(group)
        for each in group.list_commands(context):
            inner = group.get_command(context, each)
            assert inner is not None
            found |= commands(inner, f"{name} {each}")
    return found


def test_every_command_and_option_that_a_page_names_is_there() -> None:
    known = commands()
    options: defaultdict[str, set[str]] = defaultdict(set, {"--help": set()})
    for name, command in known.items():
        for each in command.params:
            for option in each.opts:
                options[option].add(name)
    for page, text in TEXTS.items():
        for name in re.findall(r"`firmtrail ([a-z]+)\b", text):
            assert f"firmtrail {name}" in known, f"{page}: firmtrail {name}"
        for option in re.findall(r"`(--[a-z][a-z-]+)", text):
            assert option in options or option in OPTIONS_OF_OTHERS, f"{page}: {option}"


def test_each_kind_of_note_is_in_the_docs_in_the_order_of_notes() -> None:
    section = TEXTS["docs/rollouts.md"].split("## What needs attention\n")[1]
    kinds = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert kinds == list(get_args(NoteKind.__value__))
