"""Writes the parts of docs/ that follow from the code; `make docs` runs it.

Each part lies in its page between `<!-- NAME -->` and `<!-- end of NAME -->`. tests/docs_test.py
checks that all of them are current.
"""

import ast
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from firmtrail.archive import pruned
from firmtrail.archive.positions import ArchiveLag
from firmtrail.cli.serve import serve
from firmtrail.events import steering
from firmtrail.events.entry import TYPES, type_of
from firmtrail.events.event import Event
from firmtrail.eventstore.sizes import LogTotals
from firmtrail.http import fleet_metrics, rollout_metrics
from firmtrail.http.metrics import Metrics, ProcessState, text_of
from firmtrail.main import main
from firmtrail.projections.outdated import OutdatedCounts
from firmtrail.webhooks.lags import Lag
from tests.layers import LAYERS

DOCS = Path(__file__).parent.parent / "docs"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def members_docs(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Returns the docstring under each member of a struct, those that it inherits too."""
    docs: dict[str, str] = {}
    base = Event if issubclass(kind, Event) else msgspec.Struct
    for each in reversed(kind.__mro__[: kind.__mro__.index(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for member, below in zip(body.body, [*body.body[1:], None], strict=True):
            match member, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                    docs[name] = one_line(text)
    return docs


NAMES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.NoneType: "",
}


def type_text(type_: msgspec.inspect.Type) -> str:
    match type_:
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(filter(None, map(type_text, types)))
        case msgspec.inspect.VarTupleType(item_type=item):
            return (
                "array of strings"
                if isinstance(item, msgspec.inspect.StrType)
                else (f"array of {type_text(item)}")
            )
        case msgspec.inspect.DictType(value_type=value):
            return f"object, by name, of {type_text(value)}"
        case msgspec.inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
    return NAMES[type(type_)]


def members_part(kind: type[msgspec.Struct]) -> str:
    """Returns the table of a struct's members."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    docs = members_docs(kind)
    if issubclass(kind, Event) and kind.TEXT is not None:
        docs.setdefault(kind.TEXT, "The salted SHA-256 of the free text, which is not in the log.")
    if not info.fields:
        return "It has no members."
    return table(
        ["member", "type", "meaning"],
        (
            [
                f"`{field.name}`" + ("" if field.required else ", optional"),
                type_text(field.type),
                docs[field.name],
            ]
            for field in info.fields
        ),
    )


def event_part(kind: type[Event]) -> str:
    text = inspect.cleandoc(kind.__doc__ or "") if "__doc__" in vars(kind) else ""
    control = " It changes what devices should run." if kind.IS_CONTROL else ""
    paragraphs = f"`{type_of(kind)}`. {text}{control}".split("\n\n")
    filled = "\n\n".join(textwrap.fill(each, 120, break_on_hyphens=False) for each in paragraphs)
    return f"### {kind.__name__}\n\n{filled}\n\n{members_part(kind)}"


def struct_part(kind: type[msgspec.Struct]) -> str:
    return f"### {kind.__name__}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n\n{members_part(kind)}"


TITLES = {
    "fleet": "Devices, releases and settings",
    "steering": "Rollouts, rollbacks and offers",
    "access": "Members and tokens",
    "webhooks": "Webhooks",
    "log": "The log itself",
}


def events() -> str:
    parts: dict[str, list[str]] = {name: [f"## {title}"] for name, title in TITLES.items()}
    for kind in TYPES.values():
        parts[kind.__module__.rpartition(".")[2]].append(event_part(kind))
    structs = (steering.PlanPhase, steering.Window, steering.AutoRollout)
    parts["members"] = ["## What members hold", *(struct_part(each) for each in structs)]
    return "\n\n".join(part for each in parts.values() for part in each)


def metrics(text: str) -> str:
    families = [
        family
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    ]
    return table(
        ["metric", "type", "meaning"],
        (
            [
                f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
                family.type,
                one_line(family.documentation),
            ]
            for family in families
        ),
    )


def server_metrics() -> str:
    sums = text_of(
        fleet_metrics._totals(
            fleet_metrics._Everywhere(
                OutdatedCounts(),
                LogTotals(0, 0),
                Lag(0, 0, 0, None, None),
                pruned.Totals(0, 0, 0),
                ArchiveLag(0, 0),
                0,
            )
        )
    )
    present = ProcessState(
        ready=True, refused_logs=0, publishing=True, checkpoints_up=True, artifacts_up=True
    )
    rollouts = text_of(rollout_metrics.families(rollout_metrics.RolloutCounts()))
    return metrics((Metrics().text(present) + rollouts + sums).decode())


def project_metrics() -> str:
    return metrics(fleet_metrics.model_metrics("project", [], {}).decode())


def default(command: click.Command, option: click.Option) -> str:
    value = option.get_default(click.Context(command))
    if value and isinstance(value, tuple):
        value = " ".join(value)
    is_unset = value is None or value == () or isinstance(value, enum.Enum)  # click's UNSET
    return "" if is_unset or option.is_flag else f"`{value}`"


def options(command: click.Command, prefix: str) -> str:
    return table(
        ["option", "variable", "default", "meaning"],
        (
            [
                f"`{option.opts[0]}`",
                f"`{prefix}_{(option.name or '').upper()}`",
                default(command, option),
                one_line(option.help or ""),
            ]
            for option in command.params
            if isinstance(option, click.Option) and option.name != "version"
        ),
    )


def rooms() -> str:
    """Returns the imports of each room. A room's floor is one above the highest that it imports."""
    floors = {"__version__": 0}
    for room, imports in LAYERS.items():
        floors[room] = 1 + max((floors[name] for name in imports.split()), default=0)
    return table(
        ["floor", "room", "imports of ours"],
        (
            [str(floors[room]), f"`{room}`", ", ".join(f"`{name}`" for name in imports.split())]
            for room, imports in sorted(LAYERS.items(), key=lambda row: -floors[row[0]])
            if not room.startswith("__")
        ),
    )


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("events.md", "events"): events,
    ("metrics.md", "server metrics"): server_metrics,
    ("metrics.md", "project metrics"): project_metrics,
    ("settings.md", "options before a command"): lambda: options(main, "FIRMTRAIL"),
    ("settings.md", "options of serve"): lambda: options(serve, "FIRMTRAIL_SERVE"),
    ("architecture.md", "rooms"): rooms,
}


def written(page: str, name: str) -> str:
    """Returns the page with this part as the code has it."""
    old = (DOCS / page).read_text()
    part = re.compile(f"(?<=<!-- {name} -->\n).*(?=<!-- end of {name} -->)", re.DOTALL)
    assert part.search(old), f"{page} has no part {name}"
    return part.sub(lambda _: f"\n{PARTS[page, name]()}\n\n", old)


if __name__ == "__main__":
    for page, name in PARTS:
        (DOCS / page).write_text(written(page, name))
