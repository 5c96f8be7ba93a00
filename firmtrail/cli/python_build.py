"""Reports how Python was built, which decides how fast the service is (docs/performance.md)."""

import platform
import shlex
import sys
import sysconfig

from firmtrail.cli.checks import Check

OPTIMISING = ("--enable-optimizations", "--with-lto")
UNRECORDED_PREFIX = "/usr"
"""Where a distribution's Python is. Debian builds an optimised one and records no option of it."""


def check() -> Check:
    """Reports the version and the build of this Python."""
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return Check("Python", "info", described(configured, sys.base_prefix))


def described(configured: str, prefix: str) -> str:
    """Describes a build by the options that its `configure` got, and the folder where it lies."""
    options = shlex.split(configured)
    found = [option for option in options if option.split("=")[0] in OPTIMISING]
    version = platform.python_version()
    if found:
        return f"{version}, built with {' and '.join(found)}"
    if prefix == UNRECORDED_PREFIX or not options:
        return f"{version}, whose build does not record whether it is optimised"
    return f"{version}, built without {OPTIMISING[0]}: it is slower than usual builds"
