"""Decides which device a client certificate names, by the pattern of a project. Pure.

A pattern is a list of names that the certificate must have, separated by commas. One of them
contains `{device}`, in the place of the device's name. All other text counts as it is written. The
caller has checked that the certificate is genuine.
"""

import re
from functools import lru_cache
from typing import NamedTuple

_TEXT = r"[^,{}\x00-\x1f\x7f]"
_KIND = r"(CN|O|OU|serialNumber|DNS|URI)="

PATTERN = rf"^({_KIND}{_TEXT}+,)*{_KIND}{_TEXT}*\{{device\}}{_TEXT}*(,{_KIND}{_TEXT}+)*$(?!\n)"
"""Matches a valid pattern. It is valid ECMA-262, so the interface's documentation uses it too."""

_DEVICE = "([A-Za-z0-9][A-Za-z0-9._:-]{0,127})"


class CertificateName(NamedTuple):
    """Holds one name in a certificate: of its subject (CN, O, OU, serialNumber) or one of its
    alternative names (DNS, URI)."""

    kind: str
    value: str


def device_of(pattern: str, names: frozenset[CertificateName]) -> str | None:
    """Returns the device that a certificate with these names is for. Returns None if a name of the
    pattern is missing, or if the names stand for several devices."""
    required, kind, device = _read(pattern)
    if not required <= names:
        return None
    matches = [device.fullmatch(each.value) for each in names if each.kind == kind]
    found = {match[1] for match in matches if match}
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=256)
def _read(pattern: str) -> tuple[frozenset[CertificateName], str, re.Pattern[str]]:
    """Returns the names of a pattern as they are, and the kind and form of the device's."""
    names = [CertificateName(*part.split("=", 1)) for part in pattern.split(",")]
    [of_device] = [each for each in names if "{device}" in each.value]
    before, _, after = of_device.value.partition("{device}")
    form = re.compile(f"{re.escape(before)}{_DEVICE}{re.escape(after)}")
    return frozenset(names) - {of_device}, of_device.kind, form
