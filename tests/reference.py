"""Implements the tree a second time: RFC 6962, section 2.1, literally, by plain recursion.

It shares no line with the product. Caches make it fast enough.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

type Hash = bytes


class Reference:
    """The trees of the first n of these entries, for every n."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._entries = entries
        self.mth = cache(self._mth)
        self.path = cache(self._path)
        self.subproof = cache(self._subproof)

    def _mth(self, start: int, stop: int) -> Hash:
        """Returns MTH(D[start:stop])."""
        if stop == start:
            return sha256(b"").digest()
        if stop == start + 1:
            return sha256(b"\x00" + self._entries[start]).digest()
        k = start + split(stop - start)
        return sha256(b"\x01" + self.mth(start, k) + self.mth(k, stop)).digest()

    def _path(self, m: int, start: int, stop: int) -> tuple[Hash, ...]:
        """Returns PATH(m, D[start:stop])."""
        if stop == start + 1:
            return ()
        k = split(stop - start)
        if m < k:
            return (*self.path(m, start, start + k), self.mth(start + k, stop))
        return (*self.path(m - k, start + k, stop), self.mth(start, start + k))

    def _subproof(self, m: int, start: int, stop: int, b: bool) -> tuple[Hash, ...]:
        """Returns SUBPROOF(m, D[start:stop], b)."""
        if m == stop - start:
            return () if b else (self.mth(start, stop),)
        k = split(stop - start)
        if m <= k:
            return (*self.subproof(m, start, start + k, b), self.mth(start + k, stop))
        return (*self.subproof(m - k, start + k, stop, False), self.mth(start, start + k))  # noqa: FBT003

    def root(self, size: int) -> Hash:
        return self.mth(0, size)

    def inclusion(self, position: int, size: int) -> list[Hash]:
        return [*self.path(position, 0, size)]

    def consistency(self, old: int, new: int) -> list[Hash]:
        """Returns PROOF(m, D[n]). Every tree is consistent with size 0, and needs no proof of
        it."""
        return [*self.subproof(old, 0, new, True)] if old else []  # noqa: FBT003


def split(n: int) -> int:
    """Returns the largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k
