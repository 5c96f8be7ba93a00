"""Reads and changes the environment of the process; no other module does."""

import os


def of_process(**more: str) -> dict[str, str]:
    """Returns the environment of this process and `more`, for a program that it starts."""
    return os.environ | more


def share_metrics(folder: str) -> None:
    """Makes all processes of a server share their counters, in files in this folder. Call it before
    prometheus_client is imported, which reads the environment then."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
