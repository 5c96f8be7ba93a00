"""The environment of the process: the only module that reads or changes it."""

import os


def of_process(**more: str) -> dict[str, str]:
    """Returns the environment of this process, with `more`: what a program started by it gets."""
    return os.environ | more


def share_metrics(folder: str) -> None:
    """Let all processes of a server count together, in files in this folder.

    prometheus_client looks at the environment when it is imported: call this before.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
