"""Whether hits come more often than they do on this instance while nothing is wrong.

One layer far out is news on most engines, and on one that its host keeps waiting it happens once in a hundred executions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from layerwatch.detectors.arrays import State
from layerwatch.detectors.scan import hits_needed

_MEMORY, _PRIOR = 100, 25  # windows that the rate rests on: at most, and without a hit before any were seen
_KEPT = 64
_RATE_CEILING = 0.1


class RareHits:
    """Of one kind.

    Args:
        window: executions that hits are counted over.
        within_s: time between the first of them and the last.
        least: fewer are never too many.
        alpha: how often a window may hold too many by chance.
        rate_floor: hits an execution that are taken for usual at the least.
    """

    def __init__(self, window: int, within_s: float, least: int, alpha: float, rate_floor: float) -> None:
        self._window, self._within_s = window, within_s
        self._least, self._alpha, self._rate_floor = least, alpha, rate_floor
        self._number = 0  # executions so far
        #: Number of the execution, and its time; they count as usual once they are old.
        self._recent: deque[tuple[int, float]] = deque()
        self._seen = self._hits = 0  # executions and hits with nothing wrong

    def push(self, hits: Collection[tuple[int, float]], executions: int, calm: bool) -> bool:
        """Whether the newest of some executions' hits is one too many.

        Args:
            hits: which of the executions, and when (s).
            calm: nothing is wrong, so that they say what is usual.
        """
        self._recent.extend([(self._number + index, time_s) for index, time_s in hits])
        self._number += executions
        while self._recent and (
            self._recent[0][0] < self._number - self._window or len(self._recent) > _KEPT
        ):
            self._recent.popleft()
            self._hits += calm
        self._seen += executions * calm
        if self._seen > _MEMORY * self._window:
            self._seen //= 2
            self._hits //= 2
        return bool(hits) and self._count() >= self._needed()

    def _count(self) -> int:
        if not self._recent:
            return 0
        last, last_s = self._recent[-1]
        return sum(
            last - number < self._window and last_s - at_s < self._within_s for number, at_s in self._recent
        )

    def _needed(self) -> int:
        rate = self._hits / (self._seen + _PRIOR * self._window)
        rate = min(max(rate, self._rate_floor), _RATE_CEILING)
        return min(hits_needed(float(f"{rate:.2g}"), self._window, self._least, self._alpha), _KEPT)

    def clear(self) -> None:
        """Something was wrong: the latest ones say nothing of what is usual, nor of what comes."""
        self._recent.clear()

    def state(self) -> State:
        return {
            "number": self._number,
            "recent": [list(at) for at in self._recent],
            "seen": self._seen,
            "hits": self._hits,
        }

    def load(self, state: State) -> None:
        self._number, self._seen, self._hits = state["number"], state["seen"], state["hits"]
        self._recent = deque((number, at_s) for number, at_s in state["recent"])
