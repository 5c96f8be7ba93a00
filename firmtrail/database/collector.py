"""Makes the garbage collector run rarely: while modules are imported, and in a process that writes
batches."""

import contextlib
import gc
from collections.abc import Iterator

THRESHOLD_OBJECTS = 50_000
"""A batch creates thousands of objects that live until its commit. None is in a cycle. Searching
them for cycles, every 2 000 objects by default, took a fifth of the time of a write."""


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Imports modules without searching them for garbage. Exempts all present objects from
    collection, because modules live until the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def collect_rarely() -> None:
    """Exempts all present objects from collection: call it when everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD_OBJECTS, 20, 20)
