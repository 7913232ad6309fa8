"""Which executions to sample: a share of all, spread over shapes so that rare ones get theirs.

A shape that was seen n times gets samples in proportion to the square root of n: with equal noise that is the best use of
a budget over many small estimates, and a shape of one execution in a thousand is not left without any.
"""

from __future__ import annotations

import math

#: Executions after which all counts are halved, so that the mix of shapes may change.
_HALVE_AT = 65_536
#: Shapes told apart at a time.
_MAX_STRATA = 1024
#: A shape's share is computed anew after so many of its executions (a power of two).
_RENEW_EVERY = 16
#: Where a shape begins on its way to its first sample: half.
_FIRST_CREDIT = 0.5


class Stratum:
    """One shape, as one thread sees it."""

    __slots__ = ("credit", "due", "root", "seen", "share", "version")

    def __init__(self) -> None:
        self.seen = 0
        self.root = 0.0  # of `seen`, when the share was computed
        self.share = 0.0
        self.credit = _FIRST_CREDIT
        self.version = -1
        self.due: bool | None = None  # whether its next execution is, where that is settled already


class Sampler:
    """Of one thread. Deterministic: credit adds up, and each whole one is a sample."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._version = 0
        self._total = 0
        self._roots = 0.0
        self._strata: dict[object, Stratum] = {}

    def stratum(self, key: object) -> Stratum:
        """Of a shape; at most 1024 are kept, then all begin anew."""
        stratum = self._strata.get(key)
        if stratum is None:
            if len(self._strata) >= _MAX_STRATA:
                self._strata.clear()
                self._total, self._roots = 0, 0.0
                self._version += 1
            stratum = self._strata[key] = Stratum()
        return stratum

    def is_due(self, stratum: Stratum, rate: float) -> bool:
        """Whether to sample this execution; `rate` is the share of all executions, 0..1."""
        if rate >= 1.0 or rate <= 0.0:
            return rate >= 1.0
        if rate != self._rate:
            self._rate = rate
            self._version += 1
        self._total += 1
        stratum.seen += 1
        if stratum.version != self._version or not stratum.seen & (_RENEW_EVERY - 1):
            self._renew(stratum)
        stratum.credit += stratum.share
        if stratum.credit < 1.0:
            return False
        stratum.credit = min(stratum.credit - 1.0, 1.0)
        return True

    def _renew(self, stratum: Stratum) -> None:
        if self._total >= _HALVE_AT:
            self._halve()
        root = math.sqrt(stratum.seen)
        self._roots = max(root, self._roots + root - stratum.root)
        stratum.root = root
        stratum.share = min(1.0, self._rate * self._total * root / (self._roots * stratum.seen))
        # the first executions of a shape change its share much
        stratum.version = self._version if stratum.seen >= _RENEW_EVERY else -1

    def _halve(self) -> None:
        for stratum in self._strata.values():
            stratum.seen = max(1, stratum.seen // 2)
            stratum.root = math.sqrt(stratum.seen)
            stratum.version = -1
        self._total = sum(stratum.seen for stratum in self._strata.values())
        self._roots = sum(stratum.root for stratum in self._strata.values())
