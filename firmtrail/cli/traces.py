"""Shows an exception in the log: its type, its frames, and its text where that holds no data.

Local variables hold passwords, tokens and the database's URL, and so do the texts of many errors:
a driver quotes the value that it could not store. A text is shown only of the types in `SPEAKING`
and of this package's own errors, whose texts are written by us.
"""

import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any

FRAMES_MAX = 50
STEPS_MAX = 10

SPEAKING = (
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
"""Types of Python's own whose texts name what the code did, not what it was given."""

type Trace = list[dict[str, Any]]


def trace(error: BaseException) -> Trace:
    """Return the exception and those that led to it, for a log that is JSON."""
    return [_step(each) for each in islice(_chain(error), STEPS_MAX)]


def text(found: Trace) -> str:
    """Return the same as text for a terminal; it says no more."""
    return "\n".join(line for step in found for line in _lines(step))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what is grouped in it, and its causes, from the last to the first."""
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
        "frames": [_frame(each) for each in frames[-FRAMES_MAX:]],
    }
    if is_speaking(error):
        step["exc_value"] = str(error)
    elif sqlstate := getattr(error, "sqlstate", None):
        step["sqlstate"] = str(sqlstate)
    if notes := [note for note in getattr(error, "__notes__", ()) if note.startswith('  File "')]:
        step["elsewhere"] = notes
    return step


def is_speaking(error: BaseException) -> bool:
    """Whether its text can be shown."""
    return isinstance(error, SPEAKING) or type(error).__module__.partition(".")[0] == "firmtrail"


def _frame(frame: traceback.FrameSummary) -> dict[str, Any]:
    return {"filename": frame.filename, "lineno": frame.lineno, "name": frame.name}


def _lines(step: dict[str, Any]) -> Iterator[str]:
    said = step.get("exc_value") or step.get("sqlstate")
    yield f"{step['exc_type']}: {said}" if said else step["exc_type"]
    for frame in step["frames"]:
        yield f"  {frame['filename']}:{frame['lineno']} in {frame['name']}"
    yield from step.get("elsewhere", ())
