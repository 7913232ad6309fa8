"""Whether p-values are independent enough to be believed: evidence that is multiplied up must not be the same evidence twice.

Two tests on the normal scores of the latest healthy p-values: Ljung and Box's for neighbours, and the variance of means over
half an hour for what moves slowly. A stream that fails both times is `degraded` until it passes with a margin. A fault makes
p-values dependent too, so they wait before they count, and those of an alarm never do.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, Ints, State
from layerwatch.detectors.slow.waiting import Waiting

_WINDOW = 256
_EVERY_BLOCKS = 32
_SEGMENT = 32
_LAGS = 6
#: Chi-squared quantiles at 1e-4 and at 0.01: of `_LAGS` degrees, and of the segments less one.
_NEIGHBOURS_BAD, _NEIGHBOURS_GOOD = 27.86, 16.81
_SEGMENTS_BAD, _SEGMENTS_GOOD = 29.88, 18.48

_FINE = 2048
_SCORE = np.array([NormalDist().inv_cdf((i + 0.5) / _FINE) for i in range(_FINE)], np.float16).astype(
    np.float32
)  # half precision holds them: state is kept in it


class Gate:
    """Of `streams`."""

    def __init__(self, streams: int) -> None:
        self.degraded: Bools = np.zeros(streams, bool)
        self._failed: Bools = np.zeros(streams, bool)
        self._waiting = Waiting(streams)
        self._scores = np.zeros((streams, _WINDOW), np.float32)
        self._count: Ints = np.zeros(streams, np.int64)
        self._steps = 0

    def update(self, p: F64, alarm: Bools) -> None:
        """Fold in a block's p-values (NaN: none); where there is an alarm, those before it are no healthy ones either."""
        known = ~np.isnan(p)
        index = np.where(known, p * _FINE, 0).astype(np.int64)
        score = self._waiting.push(np.where(known, _SCORE[np.minimum(index, _FINE - 1)], np.nan))
        ripe = np.flatnonzero(~np.isnan(score))
        self._scores[ripe, self._count[ripe] % _WINDOW] = score[ripe]
        self._count[ripe] += 1
        if alarm.any():
            self._waiting.void(alarm)
        self._steps += 1
        if self._steps % _EVERY_BLOCKS == 0:
            self._test()

    def _test(self) -> None:
        full = self._count >= _WINDOW
        z = self._scores - self._scores.mean(1, keepdims=True)
        variance = (z * z).mean(1) + 1e-9
        # The ring's oldest and newest score are taken for neighbours: one pair of 256.
        neighbours = np.zeros(len(z))
        for lag in range(1, _LAGS + 1):
            r = (z * np.roll(z, lag, 1)).mean(1) / variance
            neighbours += r * r / (_WINDOW - lag)
        neighbours *= _WINDOW * (_WINDOW + 2)
        means = z.reshape(len(z), -1, _SEGMENT).mean(2)
        segments = (means * means).sum(1) * _SEGMENT / variance
        bad = full & ((neighbours > _NEIGHBOURS_BAD) | (segments > _SEGMENTS_BAD))
        good = full & (neighbours < _NEIGHBOURS_GOOD) & (segments < _SEGMENTS_GOOD)
        self.degraded = (self.degraded & ~good) | (bad & self._failed)
        self._failed = bad

    def state(self) -> State:
        return {
            "degraded": self.degraded,
            "failed": self._failed,
            "waiting": self._waiting.state(),
            "scores": self._scores.astype(np.float16),
            "count": self._count,
            "steps": self._steps,
        }

    @classmethod
    def restore(cls, state: State) -> Gate:
        self = cls(len(state["count"]))
        self.degraded, self._failed = state["degraded"], state["failed"]
        self._waiting = Waiting.restore(state["waiting"])
        self._scores = state["scores"].astype(np.float32)
        self._count, self._steps = state["count"], state["steps"]
        return self
