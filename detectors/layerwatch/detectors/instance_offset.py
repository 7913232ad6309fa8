"""By how much an instance differs from what its build costs elsewhere: learnt in its first healthy executions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64, Bools, State, clipped, median
from layerwatch.detectors.baseline import ShapeBaseline
from layerwatch.detectors.comparison import Compared
from layerwatch.detectors.end_to_end import EndToEnd
from layerwatch.detectors.layer_watch import JUDGED

#: Healthy executions after which the offset is looked at again.
_LOOKS = (16, 32, 64, 128, 256, 512)
_YOUNG = 128  # below, the level is so unsure that a step of it says nothing
_CLIP = 0.3  # log units; an outlier counts for no more
_MOST_LAYERS, _MOST_END_TO_END = 0.15, 0.3  # log units that an instance is taken to be from its build's prior


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

    @property
    def young(self) -> bool:
        return self._seen < _YOUNG

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


class InstanceOffsets:
    """End to end, and of the layers of each optimization profile."""

    def __init__(self, profiles: Iterable[int]) -> None:
        self._end_to_end = InstanceOffset(_MOST_END_TO_END)
        self._layers = {profile: InstanceOffset(_MOST_LAYERS) for profile in profiles}

    @property
    def settled(self) -> bool:
        return self._end_to_end.settled

    @property
    def young(self) -> bool:
        return self._end_to_end.young

    def follow(
        self, compared: Compared, fit: Bools, end_to_end: EndToEnd, lanes: Mapping[int, ShapeBaseline]
    ) -> None:
        """Move baselines by what the executions that are `fit` [n] to learn from show."""
        rows = compared.rows[fit & (compared.rows[:, e.JUDGED] > 0)]
        end_to_end.shift(self._end_to_end.push(rows[:, [e.RATIO]]))
        for sampled in compared.sampled:
            offset = self._layers.get(sampled.profile)
            if offset is not None:
                judged = fit[sampled.rows] & (sampled.features[:, JUDGED] > 0)
                lanes[sampled.profile].shift(offset.push(sampled.log_ratio[judged]))

    def state(self) -> State:
        layers = {str(profile): offset.state() for profile, offset in self._layers.items()}
        return {"end_to_end": self._end_to_end.state(), "layers": layers}

    @classmethod
    def restore(cls, state: State) -> InstanceOffsets:
        self = cls([])
        self._end_to_end = InstanceOffset.restore(_MOST_END_TO_END, state["end_to_end"])
        self._layers = {
            int(profile): InstanceOffset.restore(_MOST_LAYERS, offset)
            for profile, offset in state["layers"].items()
        }
        return self
