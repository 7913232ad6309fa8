"""Which executions to sample: a share of all, spread over shapes so that rare ones get theirs.

A shape that was seen n times gets samples in proportion to the square root of n: with equal noise that is the best use of
a budget over many small estimates, and a shape of one execution in a thousand is not left without any.
"""

from __future__ import annotations

import math

from layerwatch.probe.usual import Stratum

#: Executions after which all counts are halved, so that the mix of shapes may change.
_HALVE_AT = 65_536
#: Shapes told apart at a time.
_MAX_STRATA = 1024
#: A shape's share is computed anew after so many of its executions, or after an eighth more of them if that is more.
_RENEW_EVERY = 16
#: Executions that are surely not due, where nothing is sampled.
_MANY = 1 << 30


class Sampler:
    """Of one thread. Deterministic: credit adds up, and each whole one is a sample."""

    def __init__(self) -> None:
        self._rate = 0.0
        self.version = 0  # grows when strata that were settled before are settled no more
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
                self.version += 1
            stratum = self._strata[key] = Stratum()
        return stratum

    def is_due(self, stratum: Stratum, rate: float) -> bool:
        """Whether to sample this execution; `rate` is the share of all executions, 0..1.

        Settles beforehand how many more of the stratum are surely not due: those need not be asked about, if they are
        counted in `passed`.
        """
        self._absorb(stratum)
        if rate != self._rate:
            self._rate = rate
            self.version += 1
        if rate >= 1.0 or rate <= 0.0:
            stratum.version, stratum.renew_at = self.version, 0
            stratum.free = 0 if rate >= 1.0 else _MANY
            return rate >= 1.0
        self._total += 1
        stratum.seen += 1
        if stratum.version != self.version or stratum.seen >= stratum.renew_at:
            self._renew(stratum)
        stratum.credit += stratum.share
        is_due = stratum.credit >= 1.0
        if is_due:
            stratum.credit = min(stratum.credit - 1.0, 1.0)
        until_due = math.ceil((1.0 - stratum.credit) / stratum.share) - 1
        stratum.free = max(0, min(until_due, stratum.renew_at - stratum.seen - 1))
        return is_due

    def _absorb(self, stratum: Stratum) -> None:
        """Count the executions that nobody was asked about."""
        if 0.0 < self._rate < 1.0:
            self._total += stratum.passed
            stratum.seen += stratum.passed
            stratum.credit += stratum.passed * stratum.share
        stratum.passed = stratum.free = 0

    def _renew(self, stratum: Stratum) -> None:
        if self._total >= _HALVE_AT:
            self._halve()
        root = math.sqrt(stratum.seen)
        self._roots = max(root, self._roots + root - stratum.root)
        stratum.root = root
        stratum.share = min(1.0, self._rate * self._total * root / (self._roots * stratum.seen))
        stratum.version = self.version
        # the first executions of a shape change its share much
        more = max(_RENEW_EVERY, stratum.seen // 8) if stratum.seen >= _RENEW_EVERY else 1
        stratum.renew_at = stratum.seen + more

    def _halve(self) -> None:
        for stratum in self._strata.values():
            self._absorb(stratum)
            stratum.seen = max(1, stratum.seen // 2)
            stratum.root = math.sqrt(stratum.seen)
            stratum.version = -1
        self._total = sum(stratum.seen for stratum in self._strata.values())
        self._roots = sum(stratum.root for stratum in self._strata.values())
