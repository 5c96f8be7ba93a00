"""Exempts from garbage collection what the process has imported that servers are forked from.

A server searches for garbage before it serves. In a forked process that would copy all memory of
the modules, and take longer than everything else.
"""

import gc

gc.collect()
gc.freeze()
