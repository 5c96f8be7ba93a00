"""Parses and compares versions: SemVer 2.0.0, ordered by its precedence.

Two versions are the same only if their texts are the same.
"""

import functools
import re

from semver import Version

CHARACTERS_MAX = 64

_NUMBER = "(?:0|[1-9][0-9]*)"
_IDENTIFIER = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
PATTERN = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$(?!\n)"
)
"""The grammar of SemVer 2.0.0, in ASCII; also a valid regular expression of ECMA-262."""

_SHORT = re.compile(rf"({_NUMBER})\.({_NUMBER})$(?!\n)")
_PREFIX = "SemVer"


@functools.lru_cache(maxsize=4096)
def precedence(text: str) -> Version:
    """Returns the key that orders versions (SemVer 2.0.0, section 11): without build metadata."""
    return Version.parse(text)


@functools.lru_cache(maxsize=4096)
def order(one: str, other: str) -> int:
    """Returns a number above 0 if `one` has the higher precedence, 0 if both have the same."""
    return precedence(one).compare(precedence(other))


def is_higher(one: str, other: str) -> bool:
    return order(one, other) > 0


def is_valid(text: str) -> bool:
    return len(text) <= CHARACTERS_MAX and re.search(PATTERN, text) is not None


def from_loose(text: str) -> str | None:
    """Returns the version that a text such as "SemVer1.1", "1.1" or "1.1.0" means, if any."""
    bare = text.removeprefix(_PREFIX)
    if _SHORT.match(bare):
        bare += ".0"
    return bare if is_valid(bare) else None
