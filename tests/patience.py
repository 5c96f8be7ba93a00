"""How long a test waits for what must happen: far longer than a slow machine needs.

Only a test that fails waits so long. A shorter limit is for a test that shows how soon something
happens.
"""

PATIENCE_S = 60
