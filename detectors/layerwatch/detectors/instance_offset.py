"""By how much an instance differs from what its build costs elsewhere: learnt in its first healthy executions."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State, clipped, median

#: Healthy executions after which the offset is looked at again.
_LOOKS = (16, 32, 64, 128)
_CLIP = 0.3  # log units; an outlier counts for no more


class InstanceOffset:
    """A level of log latencies, no further from the prior than `most`: a fault from the first execution on is no level."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._seen = 0
        self._sum: F64 | None = None  # [outputs] of clipped residuals since the last look
        self._since = 0
        self.total = 0.0

    @property
    def settled(self) -> bool:
        return self._seen >= _LOOKS[-1]

    def push(self, residuals: F64) -> float:
        """Healthy executions' log-ratios [k, outputs] to what is expected; by how much to move that now, mostly 0."""
        if self.settled or not len(residuals):
            return 0.0
        looks = sum(self._seen >= look for look in _LOOKS)
        added = clipped(residuals, _CLIP).sum(0)
        self._sum = added if self._sum is None else self._sum + added
        self._seen += len(residuals)
        self._since += len(residuals)
        if sum(self._seen >= look for look in _LOOKS) == looks:
            return 0.0
        level = float(np.clip(self.total + median(self._sum / self._since), -self._most, self._most))
        move, self.total = level - self.total, level
        self._sum, self._since = None, 0
        return move

    def state(self) -> State:
        return {
            "counts": [self._seen, self._since],
            "sum": None if self._sum is None else self._sum.astype(np.float32),
            "total": self.total,
        }

    @classmethod
    def restore(cls, most: float, state: State) -> InstanceOffset:
        self = cls(most)
        self._seen, self._since = state["counts"]
        self._sum = None if state["sum"] is None else state["sum"].astype(np.float64)
        self.total = state["total"]
        return self
