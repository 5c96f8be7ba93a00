"""Waits for the archive of a server."""

import time

from tests.end_to_end.command import in_process

WELL, FOUND_WRONG, COULD_NOT_RUN = 0, 1, 2
WITHIN_S = 60.0


def await_archived(database: str, where: str, entries: int) -> None:
    """Waits until an audit of the archive's first log covers so many entries, and finds nothing."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        done = in_process(database, "audit", "verify", where, "--json")
        if done.exit_code != COULD_NOT_RUN:  # else nothing is archived yet
            assert done.exit_code == WELL, done.out
            if done.json["logs"][0]["entries"] >= entries:
                return
        assert time.monotonic() < deadline, done.out + done.said
        time.sleep(0.2)
