"""Scan statistic: are there too many rare events in any of several windows?

Healthy hits cluster, so the effect size that makes an execution a hit is what protects from false alarms; the binomial
tail only says how sure the count is. Windows are counted in executions and no older than 10 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, State
from layerwatch.detectors.ring import Ring

WINDOWS = (20, 50, 100, 200)
_MAX_AGE_S = 10.0
_ALPHA = 1e-5
_LEAST_HITS = 3
_RATE_FLOOR, _RATE_CEILING = 5e-4, 0.2


@dataclass(frozen=True, slots=True)
class ScanResult:
    hits: int
    window: int
    needed: int
    p_value: float
    onset_s: float  # of the first hit in the window


class Scan:
    """Counts hits over sliding windows against the rate learnt while healthy."""

    def __init__(self) -> None:
        self._ring = Ring(max(WINDOWS), 2)
        self._seen = 0
        self._hits = 0

    @property
    def rate(self) -> float:
        """Hits per execution while healthy, floored: a rate of zero was never observed."""
        return min(_RATE_CEILING, max((self._hits + 0.5) / (self._seen + 1), _RATE_FLOOR))

    def learn(self, hits: Bools) -> None:
        self._seen += len(hits)
        self._hits += int(hits.sum())

    def push(self, times_s: F64, hits: Bools) -> ScanResult | None:
        """Add executions; the strongest window that holds too many hits, judged at the newest hit."""
        self._ring.push(np.column_stack((times_s, hits)))
        return self._judge() if hits.any() else None

    def _judge(self) -> ScanResult | None:
        rows = self._ring.last(max(WINDOWS))
        rows = rows[: np.flatnonzero(rows[:, 1])[-1] + 1]
        rows = rows[rows[:, 0] >= rows[-1, 0] - _MAX_AGE_S]
        best: ScanResult | None = None
        for window in WINDOWS:
            part = rows[-window:]
            hits = int(part[:, 1].sum())
            needed = hits_needed(_quantised(self.rate), window)
            if hits >= needed and (best is None or hits / needed > best.hits / best.needed):
                onset_s = float(part[np.flatnonzero(part[:, 1])[0], 0])
                best = ScanResult(hits, window, needed, binomial_tail(self.rate, window, hits), onset_s)
        return best

    def clear(self) -> None:
        self._ring.clear()

    def state(self) -> State:
        return {"ring": self._ring.state(), "seen": self._seen, "hits": self._hits}

    @classmethod
    def restore(cls, state: State) -> Scan:
        self = cls()
        self._ring = Ring.restore(state["ring"])
        self._seen, self._hits = state["seen"], state["hits"]
        return self


def binomial_tail(p: float, n: int, k: int) -> float:
    """P(Bin(n, p) >= k), by summing the tail from k up: no cancellation where it is tiny."""
    term = math.comb(n, k) * p**k * (1 - p) ** (n - k)
    total = 0.0
    for j in range(k, n + 1):
        total += term
        term *= (n - j) / (j + 1) * p / (1 - p)
    return min(total, 1.0)


@lru_cache(maxsize=4096)
def hits_needed(p: float, n: int) -> int:
    """Fewest hits whose binomial tail is under 1e-5, and never fewer than three."""
    k = _LEAST_HITS
    while k <= n and binomial_tail(p, n, k) >= _ALPHA:
        k += 1
    return k


def _quantised(p: float) -> float:
    return float(f"{p:.2g}")  # so that the cache above is of use
