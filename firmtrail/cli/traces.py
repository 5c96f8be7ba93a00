"""Shows an exception in the log: its type, its frames, and its text if that contains no data.

Local variables contain passwords, tokens and the database's URL, and so do the texts of many
errors: a driver quotes the value that it could not store. A text is shown only for the types in
`WITHOUT_DATA` and for this package's own errors, whose texts are written here.
"""

import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any

FRAMES_MAX = 50
STEPS_MAX = 10

WITHOUT_DATA = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    OSError,
    RecursionError,
    TypeError,
)
"""Python's own types whose texts name what the code did, not the data that it was given."""

type Trace = list[dict[str, Any]]


def trace(error: BaseException) -> Trace:
    """Returns the exception and its causes, for a log in JSON."""
    return [_step(each) for each in islice(_chain(error), STEPS_MAX)]


def text(found: Trace) -> str:
    """Returns a trace as text for a terminal; it shows no more than the JSON."""
    return "\n".join(line for step in found for line in _lines(step))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the exception, the exceptions grouped in it, and its causes, from last to first."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))


def _step(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    step: dict[str, Any] = {
        "exc_type": type(error).__qualname__,
        "frames": [
            {"filename": each.filename, "lineno": each.lineno, "name": each.name}
            for each in frames[-FRAMES_MAX:]
        ],
    }
    if is_text_shown(error):
        step["exc_value"] = str(error)
    elif sqlstate := getattr(error, "sqlstate", None):
        step["sqlstate"] = str(sqlstate)
    if notes := [note for note in getattr(error, "__notes__", ()) if note.startswith('  File "')]:
        step["elsewhere"] = notes
    return step


def is_text_shown(error: BaseException) -> bool:
    is_ours = type(error).__module__.partition(".")[0] == "firmtrail"
    return is_ours or isinstance(error, WITHOUT_DATA)


def _lines(step: dict[str, Any]) -> Iterator[str]:
    reason = step.get("exc_value") or step.get("sqlstate")
    yield f"{step['exc_type']}: {reason}" if reason else step["exc_type"]
    for frame in step["frames"]:
        yield f"  {frame['filename']}:{frame['lineno']} in {frame['name']}"
    yield from step.get("elsewhere", ())
