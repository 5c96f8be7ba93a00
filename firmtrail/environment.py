"""Reads and changes the environment of the process; no other module does."""

import os

_HUGE_PAGES = "glibc.malloc.hugetlb"


def of_process(**more: str) -> dict[str, str]:
    """Returns the environment of this process and `more`, for a program that it starts."""
    return os.environ | more


def with_huge_pages() -> dict[str, str]:
    """Returns the environment of this process for a program that it starts, and lets that program's
    malloc ask the kernel for huge pages (glibc since 2.35, "Memory Allocation Tunables"). A setting
    that is there already stays in force; another C library ignores this one."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if _HUGE_PAGES in tunables:
        return of_process()
    asked = f"{_HUGE_PAGES}=1"
    return of_process(GLIBC_TUNABLES=f"{tunables}:{asked}" if tunables else asked)


def share_metrics(folder: str) -> None:
    """Makes all processes of a server share their counters, in files in this folder. Call it before
    prometheus_client is imported, which reads the environment then."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def watchdog_s() -> float | None:
    """Returns the time within which a service manager expects the next sign of life of this
    process; None: it expects none (sd_watchdog_enabled(3))."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    is_ours = pid is None or pid == str(os.getpid())
    return int(text) / 1_000_000 if is_ours and text.isdecimal() and int(text) else None
