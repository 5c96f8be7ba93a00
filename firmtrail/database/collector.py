"""Makes the garbage collector run rarely: while modules are imported, and in a process that writes
batches."""

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

THRESHOLD_OBJECTS = 50_000
"""A batch creates thousands of objects that live until its commit. None is in a cycle. Searching
them for cycles, every 2 000 objects by default, took a fifth of the time of a write."""


def imported(name: str) -> ModuleType:
    """Imports a module, and all that it needs, without searching for garbage meanwhile: the objects
    of modules live until the end. Exempts all present objects from collection. Ctrl-C takes effect
    after it."""
    if name in sys.modules:
        return sys.modules[name]
    with _interrupts_held_back():
        gc.disable()
        try:
            return import_module(name)
        finally:
            gc.freeze()
            gc.enable()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Lets SIGINT wait until the end of the block. In the middle of an import it may come while
    Python runs a callback whose exceptions are ignored, and would be lost."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def collect_rarely() -> None:
    """Exempts all present objects from collection: call it when everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD_OBJECTS, 20, 20)
