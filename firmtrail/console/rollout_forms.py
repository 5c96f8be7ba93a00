"""Reads the fields of the forms that start a rollout or change its plan, as a body of the API.

A phase of a plan is a row of fields; a row without a percentage is not there. A form with a single
row that names no end is a rollout without a plan. The API's own types find what is wrong, and each
fault goes to the field that it is about.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from firmtrail.console import filters
from firmtrail.events.steering import PlanPhase
from firmtrail.http.errors import Fault
from firmtrail.rules.plan import PLAN_PHASES_MAX

ROWS_SPARE = 2
"""The empty rows that a form shows below those that are filled in."""

type FieldText = Annotated[str, Meta(max_length=200)]
type Texts = Mapping[str, str]
"""The texts that a person wrote, by the names of the fields; "" in a field that is empty."""

WINDOW_FIELDS = ("window_cron", "window_for", "window_timezone")
SINGLE_FIELDS = (
    "model",
    "version",
    "cohort",
    "tag",
    "start_at",
    *WINDOW_FIELDS,
    "failed_percent",
    "failed_reports",
    "silent_after",
)
ROW_FIELDS = ("percent", "after", "installed", "reports")

_PERCENT = re.compile(r"(100([.,]0{1,2})?|[0-9]{1,2}([.,][0-9]{1,2})?) ?%?")
_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""The units by their first letters."""
_DURATION = re.compile(
    r"(?:([0-9]{1,6})\s*(d|days?|h|hours?|min|minutes?|s|seconds?)\b\s*)", re.IGNORECASE
)
_WHOLE = re.compile(r"[0-9]{1,15}")

_ROW_POINTERS = {
    "percent": "percent",
    "after_s": "after",
    "when": "installed",
    "when/installed_percent": "installed",
    "when/min_reports": "reports",
}
_POINTERS = {
    "percent": "percent",
    "plan/phases": "percent",
    "start_at": "start_at",
    "window/cron": "window_cron",
    "window/duration_s": "window_for",
    "window/timezone": "window_timezone",
    "pause_if/failed_percent": "failed_percent",
    "pause_if/min_reports": "failed_reports",
    "silent_after_s": "silent_after",
}


class ReadForm(NamedTuple):
    """Holds the body that a form describes, and the faults of its fields by their names."""

    body: dict[str, Any]
    faults: dict[str, str]
    rows: list[int]
    """The rows that are filled in, from 0, in the order of the phases."""


def row_name(name: str, row: int) -> str:
    """Returns the name of a field in a row, from 0."""
    return name if row == 0 else f"{name}_{row + 1}"


def row_names() -> list[str]:
    """Returns the names of the fields of all rows."""
    return [row_name(name, row) for row in range(PLAN_PHASES_MAX) for name in ROW_FIELDS]


def struct_of(name: str, names: Iterable[str], base: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Returns the type of a form or query with these fields and those of `base`."""
    fields: list[tuple[str, Any, Any]] = [(each, FieldText, "") for each in names]
    return msgspec.defstruct(name, fields, bases=(base,), frozen=True, kw_only=True)


def asked_texts(query: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Returns the fields of a form that is sent as a query, with their spaces. Only a version has
    none: there, a space stands for the plus sign that somebody wrote into the address."""
    texts = {name: query.get(name, "") for name in names}
    return {
        name: text.replace(" ", "+") if name == "version" else text for name, text in texts.items()
    }


def shown(texts: Texts, faults: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of the form for its template, with the faults by the fields' names."""
    return {
        "texts": texts,
        "rows": _rows_shown(texts),
        "kept": list(_kept(texts)),
        "faults": faults,
    }


def _rows_shown(texts: Texts) -> int:
    """Returns how many rows the form shows: some empty ones follow the last that is filled in."""
    filled = [row for row in range(PLAN_PHASES_MAX) if _is_filled(texts, row)]
    return min(PLAN_PHASES_MAX, max(filled, default=0) + 1 + ROWS_SPARE)


def texts_of_phases(phases: Sequence[PlanPhase]) -> dict[str, str]:
    """Returns the fields that describe these phases."""
    texts: dict[str, str] = {}
    for row, phase in enumerate(phases[:PLAN_PHASES_MAX]):
        after = "" if phase.after_s is None else filters.duration(phase.after_s * 1000)
        shown = {
            "percent": f"{phase.reach / 100:g}",
            "after": after.replace(filters.NO_BREAK, " "),
            "installed": _text(phase.installed_percent),
            "reports": _text(phase.min_reports),
        }
        texts |= {row_name(name, row): text for name, text in shown.items()}
    return texts


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def read_plan(texts: Texts) -> ReadForm:
    """Reads the phases of a plan alone, as a body with the member `plan`."""
    form = _Form(texts)
    rows = [row for row in range(PLAN_PHASES_MAX) if _is_filled(texts, row)]
    body = {"plan": {"phases": [form.phase(row) for row in rows]}}
    return ReadForm(body, form.faults, rows)


def read_start(texts: Texts) -> ReadForm:
    """Reads everything that describes a new rollout."""
    form, plan = _Form(texts), read_plan(texts)
    body: dict[str, Any] = {
        "model": texts["model"],
        "version": texts["version"],
        "cohort": texts["cohort"] or None,
        "tag": texts["tag"] or None,
        "start_at": _start_of(texts["start_at"]),
        "window": form.window(),
        "pause_if": _group(
            failed_percent=form.whole("failed_percent"), min_reports=form.whole("failed_reports")
        ),
        "silent_after_s": form.seconds("silent_after"),
    }
    phases = plan.body["plan"]["phases"]
    body |= phases[0] if len(phases) == 1 and phases[0].keys() == {"percent"} else plan.body
    return ReadForm(body, plan.faults | form.faults, plan.rows)


def read_window(texts: Texts) -> ReadForm:
    """Reads a window alone, as a body with the member `window`."""
    form = _Form(texts)
    return ReadForm({"window": form.window()}, form.faults, [])


def _start_of(text: str) -> str | None:
    """Returns a time from a field for a local time, which is read as UTC."""
    if not text:
        return None
    return f"{text}:00Z" if len(text) == len("2026-01-31T12:00") else f"{text}Z"


def _is_filled(texts: Texts, row: int) -> bool:
    return any(texts.get(row_name(name, row)) for name in ROW_FIELDS)


def _group(**members: Any) -> dict[str, Any] | None:
    """Returns the members that are given; None if there are none."""
    return {name: each for name, each in members.items() if each is not None} or None


class _Form:
    """Reads single fields, and collects what is wrong with their form."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.faults: dict[str, str] = {}

    def phase(self, row: int) -> dict[str, Any]:
        """Returns a phase; members of empty fields are not there."""
        names = {name: row_name(name, row) for name in ROW_FIELDS}
        when = _group(
            installed_percent=self.whole(names["installed"]),
            min_reports=self.whole(names["reports"]),
        )
        found = {
            "percent": self._percent(names["percent"]),
            "after_s": self.seconds(names["after"]),
            "when": when,
        }
        return {name: value for name, value in found.items() if value is not None}

    def window(self) -> dict[str, Any] | None:
        """Returns the window; None if its fields are empty."""
        return _group(
            cron=self._texts["window_cron"] or None,
            duration_s=self.seconds("window_for"),
            timezone=self._texts["window_timezone"] or None,
        )

    def whole(self, name: str) -> Any:
        return self._value(name, _whole, "is not a whole number")

    def seconds(self, name: str) -> Any:
        return self._value(name, _seconds, "is not a length of time, such as 1 d, 12 h or 90 min")

    def _percent(self, name: str) -> Any:
        return self._value(
            name, _percent, "expected a percentage from 0 to 100 with two decimals at most"
        )

    def _value(self, name: str, read: Callable[[str], float | None], reason: str) -> Any:
        text = self._texts.get(name, "").strip()
        if not text:
            return None
        value = read(text)
        if value is None:
            self.faults[name] = reason
        return value


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _percent(text: str) -> float | None:
    if _PERCENT.fullmatch(text) is None:
        return None
    return float(text.rstrip("% ").replace(",", "."))


def _seconds(text: str) -> int | None:
    found = list(_DURATION.finditer(text))
    ends = [0, *(each.end() for each in found)]
    is_whole = ends[-1] == len(text) and all(
        each.start() == end for each, end in zip(found, ends, strict=False)
    )
    if not found or not is_whole:
        return None
    return sum(int(each[1]) * _UNITS_S[each[2][0].lower()] for each in found)


def by_field(faults: Iterable[Fault], rows: Sequence[int]) -> dict[str, str]:
    """Returns the faults of a body by the names of the fields that they are about."""
    found: dict[str, str] = {}
    for each in faults:
        found.setdefault(_field_of(str(each.pointer).strip("/"), rows), each.reason)
    return found


def _field_of(pointer: str, rows: Sequence[int]) -> str:
    parts = pointer.removeprefix("plan/phases/").split("/", 1)
    if pointer.startswith("plan/phases/") and parts[0].isdigit():
        row = rows[int(parts[0])] if int(parts[0]) < len(rows) else 0
        member = parts[1] if len(parts) > 1 else "percent"
        return row_name(_ROW_POINTERS.get(member, "percent"), row)
    return _POINTERS.get(pointer, pointer)


def _kept(texts: Texts) -> Iterator[tuple[str, str]]:
    """Yields the fields that are not empty, for a form that sends them again."""
    return ((name, text) for name, text in texts.items() if text)
