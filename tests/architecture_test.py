"""Checks the imports between modules, and what may be used where. A new room needs a row."""

import ast
import functools
import re
import subprocess
import sys

from tests.layers import LAYERS, PACKAGE, modules

ONLY_IN = {  # a name from outside -> the modules that may use it
    "aiohttp": (
        "application audit.source cli console http main protocols simulate webhooks.sender "
        "webhooks.targets"
    ),
    "aiosqlite": "database.sqlite_writer",
    "asyncpg": "database.postgres",
    "jinja2": "console",
    "markupsafe": "console",
    "obstore": "archive.stores artifacts publishing.published_bucket",
    "opentelemetry": "http.tracing",
    "os.environ": "environment",
    "os.getenv": "environment",
    "sqlite3": (
        "database.sqlite database.sqlite_connection database.sqlite_copy database.sqlite_process"
    ),
}
# No async, and none of the names in IMPURE.
PURE = "events rules eventstore.merkle eventstore.proofs eventstore.tiles"
IMPURE = "asyncio datetime.datetime.now os random secrets time uuid uuid_utils"


def is_in(name: str, places: str) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places.split())


def layer_of(name: str) -> str:
    return max((layer for layer in LAYERS if is_in(name, layer)), key=len, default=name)


def names_used(tree: ast.AST) -> set[str]:
    """Return imports and what is reached through them, in full: os, datetime.datetime.now."""
    nodes = list(ast.walk(tree))
    full: dict[str, str] = {}  # a name in the file -> its name in full
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            full |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
        elif isinstance(node, ast.Import):
            full |= {n.asname or n.name: n.name for n in node.names}
    chains = [ast.unparse(n).partition(".") for n in nodes if isinstance(n, ast.Attribute)]
    return {*full.values(), *(f"{full[root]}.{rest}" for root, _, rest in chains if root in full)}


@functools.cache
def uses() -> list[tuple[str, str]]:
    """Return each module with each name that it uses."""
    return [(module, name) for module, tree in modules().items() for name in names_used(tree)]


def test_every_module_has_a_layer() -> None:
    assert modules()
    assert {layer_of(module) for module in modules()} <= LAYERS.keys()


def test_a_layer_imports_only_what_its_row_names() -> None:
    ours = [(layer_of(m), m, n) for m, n in uses() if is_in(n, "firmtrail")]
    assert not [
        f"{module} imports {name}"
        for layer, module, name in ours
        if layer_of(name.removeprefix("firmtrail.")) not in {layer, *LAYERS[layer].split()}
    ]


def test_pages_read_by_call_db_which_a_standby_may_answer() -> None:
    others = re.compile(r"\bservices\.db\b(?!\.(transaction|scrub)\()")
    assert {
        module
        for module, tree in modules().items()
        if is_in(module, "console.pages") and others.search(ast.unparse(tree))
    } == {"console.pages.sign_in_oidc"}  # a sign-in stays at the primary


def test_no_layer_imports_a_later_one() -> None:
    rows = list(LAYERS)
    assert not [
        f"{layer} may import {name}, whose row comes later"
        for at, layer in enumerate(rows)
        for name in LAYERS[layer].split()
        if name != "__version__" and name not in rows[:at]
    ]


def test_drivers_the_web_and_the_environment_have_one_home() -> None:
    assert not [
        f"{module} uses {name}"
        for module, name in uses()
        for outside, home in ONLY_IN.items()
        if is_in(name, outside) and not is_in(module, home)
    ]


def test_rules_events_and_merkle_are_pure() -> None:
    pure = [module for module in modules() if is_in(module, PURE)]
    assert not [f"{m} uses {n}" for m, n in uses() if m in pure and is_in(n, IMPURE)]
    assert not [
        f"{module} has async def {node.name}"
        for module in pure
        for node in ast.walk(modules()[module])
        if isinstance(node, ast.AsyncFunctionDef)
    ]


RARELY_NEEDED = ("alembic", "asyncpg", "authlib", "joserfc", "opentelemetry", "sqlalchemy")


def test_a_command_does_not_import_what_only_some_servers_need() -> None:
    written = "import firmtrail.cli.local, sys; print(*sys.modules)"
    started = subprocess.run(
        [sys.executable, "-c", written], capture_output=True, text=True, check=True
    )
    imported = set(started.stdout.split())
    assert "firmtrail.application.app" in imported
    assert not imported.intersection(RARELY_NEEDED)


def test_the_revisions_of_the_schema_have_numbers_without_gaps() -> None:
    """Two branches may each add the next revision, and merge without a conflict."""
    numbers = [path.name[:4] for path in sorted((PACKAGE / "schema").rglob("versions/[0-9]*.py"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
