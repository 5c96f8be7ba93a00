"""How often a process that makes batches looks for garbage."""

import gc

THRESHOLD_OBJECTS = 50_000
"""A batch makes thousands of objects that live until its commit. None is in a cycle, and looking
for cycles among them, every 2 000 objects by default, took a fifth of the write path."""


def look_rarely() -> None:
    """Once everything is imported: that is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD_OBJECTS, 20, 20)
