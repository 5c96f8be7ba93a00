"""Versions: SemVer 2.0.0, compared by its precedence, the same only if the text is the same."""

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
"""SemVer 2.0.0's own grammar, in ASCII; a valid regular expression of ECMA-262 too."""

_SHORT = re.compile(rf"({_NUMBER})\.({_NUMBER})$(?!\n)")
_PREFIX = "SemVer"


@functools.lru_cache(maxsize=4096)
def precedence(text: str) -> Version:
    """Orders versions as SemVer 2.0.0, section 11, does: build metadata does not count."""
    return Version.parse(text)


@functools.lru_cache(maxsize=4096)
def order(one: str, other: str) -> int:
    """Above 0 where `one` is the higher by precedence, 0 where they are equal in it."""
    return precedence(one).compare(precedence(other))


def is_higher(one: str, other: str) -> bool:
    """By precedence."""
    return order(one, other) > 0


def is_valid(text: str) -> bool:
    return len(text) <= CHARACTERS_MAX and re.search(PATTERN, text) is not None


def from_loose(text: str) -> str | None:
    """The version meant by "SemVer1.1", "1.1" or "1.1.0"; None where it means none."""
    bare = text.removeprefix(_PREFIX)
    if _SHORT.match(bare):
        bare += ".0"
    return bare if is_valid(bare) else None
