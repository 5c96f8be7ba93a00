"""Who may import whom, and what may be used where. A new module needs a row in LAYERS."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "firmtrail"

VIEWS = "change device event events orders release report settings steering version eventstore"
SHELL = f"{VIEWS} access artifacts projections config"
LAYERS = {  # a module or folder of firmtrail -> what of firmtrail it imports, beside itself
    "__init__": "",
    "__main__": "main",
    "config": "",
    "repeats": "",
    "eventstore": "repeats",
    "event": "",
    "orders": "event",
    "events": "event orders",
    "version": "",
    "change": "version",
    "report": "events",
    "device": "events report",
    "release": "device events version",
    "artifacts": "config eventstore",
    "settings": "events",
    "steering": "change device events orders release settings version",
    "access": "eventstore events settings",
    "projections": VIEWS,
    "commit": f"{VIEWS} projections",
    "offering": f"{VIEWS} commit projections",
    "recording": f"{VIEWS} commit projections",
    "record": f"{VIEWS} commit offering projections recording",
    "commands": f"{VIEWS} access commit projections record",
    "audit": f"{VIEWS} projections record",
    "http": f"{SHELL} commands commit offering record recording repeats __version__",
    "cli": f"{SHELL} audit commands commit http main record repeats __version__",
    "main": f"{SHELL} audit cli commands http record __version__",
}
ONLY_IN = {  # a name from outside -> the modules that may use it
    "aiohttp": "audit.source http cli main",
    "aiosqlite": "eventstore.sqlite_writer",
    "asyncpg": "eventstore.postgres",
    "obstore": "artifacts eventstore.outside_bucket",
    "os.environ": "main",
    "os.getenv": "main",
    "sqlite3": (
        "eventstore.sqlite eventstore.sqlite_connection eventstore.sqlite_copy "
        "eventstore.sqlite_process"
    ),
}
# No async, and none of the names in IMPURE.
PURE = (
    "change device event events orders release report settings steering version "
    "eventstore.merkle eventstore.proofs eventstore.tiles"
)
IMPURE = "asyncio datetime.datetime.now os random secrets time uuid uuid_utils"


def is_in(name: str, places: str) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places.split())


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


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_bytes())
    for path in sorted(PACKAGE.rglob("*.py"))
}
USES = [(module, name) for module, tree in MODULES.items() for name in sorted(names_used(tree))]


def test_every_module_has_a_layer() -> None:
    assert MODULES
    assert {module.split(".")[0] for module in MODULES} <= LAYERS.keys()


def test_a_layer_imports_only_what_its_row_names() -> None:
    ours = [(m.split(".")[0], m, n) for m, n in USES if is_in(n, "firmtrail")]
    assert not [
        f"{module} imports {name}"
        for layer, module, name in ours
        if not is_in(name.removeprefix("firmtrail."), f"{layer} {LAYERS[layer]}")
    ]


def test_drivers_the_web_and_the_environment_have_one_home() -> None:
    assert not [
        f"{module} uses {name}"
        for module, name in USES
        for outside, home in ONLY_IN.items()
        if is_in(name, outside) and not is_in(module, home)
    ]


def test_rules_events_and_merkle_are_pure() -> None:
    pure = [module for module in MODULES if is_in(module, PURE)]
    assert not [f"{m} uses {n}" for m, n in USES if m in pure and is_in(n, IMPURE)]
    assert not [
        f"{module} has async def {node.name}"
        for module in pure
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.AsyncFunctionDef)
    ]
