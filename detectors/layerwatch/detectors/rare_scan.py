"""Rare and large events among thousands of executions: 0.3 % of them eight times as long never fill a short window."""

from __future__ import annotations

from collections import deque

from layerwatch.detectors.arrays import F64, Bools, State
from layerwatch.detectors.scan import ScanResult, binomial_tail, hits_needed

WINDOWS = (500, 1000, 2000, 4000)
_RATE = 1e-4  # an execution, taken for healthy at the least (2 of 35 551 healthy ones in the recordings)
_RATE_CEILING = 0.02
_MAX_AGE_S = 600.0


class RareScan:
    """Counts hits over long windows; keeps the hits alone."""

    def __init__(self) -> None:
        self._seen = 0
        self._latest: deque[tuple[int, float]] = deque()  # number of the execution, time; the newest last
        self._healthy_seen = 0
        self._healthy_hits = 0

    @property
    def rate(self) -> float:
        """Hits an execution while healthy: what was seen, and half a hit in 5000 executions before."""
        return min(_RATE_CEILING, max(_RATE, (self._healthy_hits + 0.5) / (self._healthy_seen + 5000)))

    def push(self, times_s: F64, hits: Bools) -> ScanResult | None:
        """Add executions; the strongest window that holds too many hits, judged at the newest hit."""
        found = hits.nonzero()[0].tolist()
        for index in found:
            self._latest.append((self._seen + index, float(times_s[index])))
        self._seen += len(hits)
        return self._judge() if found else None

    def learn(self) -> None:
        """Nothing is wrong: what has left the longest window was healthy."""
        oldest = self._seen - max(WINDOWS)
        while self._latest and self._latest[0][0] < oldest:
            self._latest.popleft()
            self._healthy_hits += 1
        self._healthy_seen = max(self._healthy_seen, oldest, 0)

    def clear(self) -> None:
        """An episode has ended."""
        self._latest.clear()

    def _judge(self) -> ScanResult | None:
        newest, now_s = self._latest[-1]
        best: ScanResult | None = None
        for window in WINDOWS:
            inside = [t for i, t in self._latest if i > newest - window and t > now_s - _MAX_AGE_S]
            needed = hits_needed(float(f"{self.rate:.2g}"), window)
            if len(inside) >= needed and (best is None or len(inside) / needed > best.hits / best.needed):
                p_value = binomial_tail(self.rate, window, len(inside))
                best = ScanResult(len(inside), window, needed, p_value, inside[0])
        return best

    def state(self) -> State:
        return {
            "seen": self._seen,
            "latest": [list(hit) for hit in self._latest],
            "healthy": [self._healthy_seen, self._healthy_hits],
        }

    @classmethod
    def restore(cls, state: State) -> RareScan:
        self = cls()
        self._seen = state["seen"]
        self._latest.extend((index, time_s) for index, time_s in state["latest"])
        self._healthy_seen, self._healthy_hits = state["healthy"]
        return self
