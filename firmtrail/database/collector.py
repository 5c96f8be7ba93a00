"""Makes the garbage collector run rarely: while modules are imported, and in a process that writes
batches."""

import gc
import sys
from importlib import import_module
from types import ModuleType

THRESHOLD_OBJECTS = 50_000
"""A batch creates thousands of objects that live until its commit. None is in a cycle. Searching
them for cycles, every 2 000 objects by default, took a fifth of the time of a write."""


def imported(name: str) -> ModuleType:
    """Imports a module, and all that it needs, without searching for garbage meanwhile: the objects
    of modules live until the end. Exempts all present objects from collection."""
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def collect_rarely() -> None:
    """Exempts all present objects from collection: call it when everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD_OBJECTS, 20, 20)
