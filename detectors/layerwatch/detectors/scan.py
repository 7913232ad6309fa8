"""Scan statistic: are there too many rare events in any of several windows?

Healthy hits cluster, so the effect size that makes an execution a hit is what protects from false alarms; the binomial
tail only says how sure the count is. Windows are counted in executions, and limited in age.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, State

WINDOWS = (20, 50, 100, 200)
_LOT = 1000  # executions
_TOGETHER = 16  # executions that wait as one
_WAIT = max(WINDOWS)  # executions without trouble, before earlier ones are called healthy
#: Oldest execution of a window (s); longer where only some executions are seen.
MAX_AGE_S, SPARSE_AGE_S = 10.0, 30.0
_ALPHA = 1e-5
_LEAST_HITS = 3
#: What is open goes on at hits that come by chance once in a hundred windows, two at the least.
_LEAST_CROWDED, _CROWDED_ALPHA = 2, 1e-2
_RATE_CEILING = 0.2


@dataclass(frozen=True, slots=True)
class ScanResult:
    hits: int
    window: int
    needed: int
    p_value: float
    onset_s: float  # of the first hit in the window


@dataclass(slots=True)
class _Counted:
    seen: int = 0
    hits: int = 0

    def add(self, seen: int, hits: int) -> None:
        self.seen += seen
        self.hits += hits


class Scan:
    """Counts hits over sliding windows against the rate learnt while healthy.

    Args:
        rate_floor: hits an execution that are taken for healthy at the least; a rate of zero was never observed.
        prior_executions: healthy executions that this is believed for, before any was seen.
        least_hits: fewer are never too many.
        trimmed: the rate leaves out the lot of a thousand with most hits, which may have held a trouble that nobody saw.
            Only for hits that healthy executions hardly ever are: what comes with some healthy regimes must count.
        apart_s: time between the first hit of a window and its last: one hiccup may cost several executions.
    """

    def __init__(
        self,
        rate_floor: float,
        prior_executions: int = 1,
        least_hits: int = _LEAST_HITS,
        apart_s: float = 0.0,
        trimmed: bool = False,
    ) -> None:
        self._rate_floor = rate_floor
        self._prior_executions = prior_executions
        self._least_hits = least_hits
        self._apart_s = apart_s
        self._trimmed = trimmed
        self._seen = 0
        #: Hits, the newest last: number of the execution, and its time.
        self._latest: deque[tuple[int, float]] = deque()
        self._now_s = 0.0  # of the newest execution
        self._healthy = _Counted()
        self._lot = _Counted()  # being gathered
        self._worst = _Counted()  # the whole lot with most hits
        self._lots = 0
        self._pending: deque[tuple[int, int]] = (
            deque()
        )  # executions and hits, not old enough to be called healthy
        self._waiting = 0  # executions in it

    @property
    def rate(self) -> float:
        """Hits an execution while healthy."""
        seen, hits = self._healthy.seen, self._healthy.hits
        if self._trimmed and self._lots > 1:
            seen, hits = seen - self._worst.seen, hits - self._worst.hits
        learnt = (hits + 0.5) / (seen + self._prior_executions)
        return min(_RATE_CEILING, max(learnt, self._rate_floor))

    def learn(self, hits: Bools) -> None:
        """Executions that were found healthy; they count once a whole window has passed without trouble."""
        seen, found = len(hits), int(np.count_nonzero(hits))
        self._waiting += seen
        if self._pending and self._pending[-1][0] < _TOGETHER:
            waiting, among = self._pending.pop()
            seen, found = seen + waiting, found + among
        self._pending.append((seen, found))
        while self._waiting - self._pending[0][0] >= _WAIT:
            seen, found = self._pending.popleft()
            self._waiting -= seen
            self._fold(seen, found)

    def warm_up(self, hits: Bools) -> None:
        """The executions that thresholds were learnt from."""
        self._fold(len(hits), int(hits.sum()))

    def _fold(self, seen: int, hits: int) -> None:
        self._healthy.add(seen, hits)
        self._lot.add(seen, hits)
        if self._lot.seen >= _LOT:
            self._lots += 1
            if self._lot.hits > self._worst.hits:
                self._worst = self._lot
            self._lot = _Counted()

    def push(self, times_s: F64, hits: Bools, max_age_s: float = MAX_AGE_S) -> ScanResult | None:
        """Add executions; the strongest window that holds too many hits, judged at the newest hit."""
        found = hits.nonzero()[0].tolist()
        self._latest.extend((self._seen + index, float(times_s[index])) for index in found)
        self._seen += len(hits)
        if len(hits):
            self._now_s = float(times_s[-1])
        while self._latest and self._latest[0][0] < self._seen - 2 * max(WINDOWS):
            self._latest.popleft()
        return self._judge(max_age_s) if found else None

    def crowded(self, max_age_s: float = MAX_AGE_S) -> bool:
        """Whether the longest window holds more hits than it does with nothing wrong: enough to go on, not to begin."""
        needed = hits_needed(_quantised(self.rate), max(WINDOWS), _LEAST_CROWDED, _CROWDED_ALPHA)
        return len(self._inside(self._seen - 1, self._now_s, max(WINDOWS), max_age_s)) >= needed

    def _judge(self, max_age_s: float) -> ScanResult | None:
        newest, newest_s = self._latest[-1]
        best: ScanResult | None = None
        for window in WINDOWS:
            inside = self._inside(newest, newest_s, window, max_age_s)
            hits = len(inside)
            needed = hits_needed(_quantised(self.rate), window, self._least_hits)
            if hits >= needed and (best is None or hits / needed > best.hits / best.needed):
                if newest_s - inside[0] < self._apart_s:
                    continue
                best = ScanResult(hits, window, needed, binomial_tail(self.rate, window, hits), inside[0])
        return best

    def _inside(self, newest: int, newest_s: float, window: int, max_age_s: float) -> list[float]:
        """When the hits of the window that ends with an execution were."""
        first, since_s = newest - window, newest_s - max_age_s
        return [time_s for number, time_s in self._latest if number > first and time_s >= since_s]

    def clear(self) -> None:
        self._latest.clear()
        self._pending.clear()
        self._waiting = 0

    def state(self) -> State:
        return {
            "seen": self._seen,
            "latest": [list(hit) for hit in self._latest],
            "now_s": self._now_s,
            "counted": [[c.seen, c.hits] for c in (self._healthy, self._lot, self._worst)],
            "lots": self._lots,
            "pending": [list(part) for part in self._pending],
        }

    def load(self, state: State) -> None:
        self._seen, self._now_s = state["seen"], state["now_s"]
        self._latest = deque((number, time_s) for number, time_s in state["latest"])
        self._healthy, self._lot, self._worst = (_Counted(*counted) for counted in state["counted"])
        self._lots = state["lots"]
        self._pending = deque((seen, hits) for seen, hits in state["pending"])
        self._waiting = sum(seen for seen, _ in self._pending)


def binomial_tail(p: float, n: int, k: int) -> float:
    """P(Bin(n, p) >= k), by summing the tail from k up: no cancellation where it is tiny."""
    term = math.exp(math.log(math.comb(n, k)) + k * math.log(p) + (n - k) * math.log1p(-p))
    total = 0.0
    for j in range(k, n + 1):
        total += term
        if j > n * p and term < 1e-17 * total:
            break  # what follows is less than the last digit
        term *= (n - j) / (j + 1) * p / (1 - p)
    return min(total, 1.0)


@lru_cache(maxsize=4096)
def hits_needed(p: float, n: int, least: int = _LEAST_HITS, alpha: float = _ALPHA) -> int:
    """Fewest hits whose binomial tail is under `alpha`, and never fewer than `least`."""
    k = least
    while k <= n and binomial_tail(p, n, k) >= alpha:
        k += 1
    return k


def _quantised(p: float) -> float:
    return float(f"{p:.2g}")  # so that the cache above is of use
