"""One build and optimization profile: the baseline of its layers, and what its sampled executions look like against it."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors import layer_watch as column
from layerwatch.detectors.arrays import F64, Bools, State, row_medians, some
from layerwatch.detectors.baseline import FLOOR_MS, SPARSE_SUPPORT, SUPPORT, ShapeBaseline
from layerwatch.detectors.batch import Executions, LayerTimes
from layerwatch.detectors.level_watch import LevelWatch
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.shapes import Point
from layerwatch.schemas.engines import Layer

#: Of so many other layers at the least is a share told: one of two is no half of an engine.
_FEW_LAYERS = 8


class Lane:
    """Baseline and levels of one layer set."""

    def __init__(self, layers: list[Layer]) -> None:
        self.baseline = ShapeBaseline(len(layers))
        self.levels = LevelWatch(layers)
        self._latest: tuple[LayerTimes, F64] | None = None  # their logarithms

    def compare(
        self, batch: Executions, layers: LayerTimes, points: list[Point], skip: Bools
    ) -> Sampled | None:
        """Sampled executions against the baseline; None until there is one."""
        if not self.baseline.fitted:
            return None
        shape = batch.shape[layers.rows]
        needed = SUPPORT if batch.rate >= 1.0 else SPARSE_SUPPORT
        log_expected, seen = self.baseline.expected(points)
        expected_ms = np.exp(log_expected)
        total = np.add.reduce(expected_ms, 1)[shape]
        expected_ms = expected_ms[shape]
        times_ms = layers.times_ms.astype(np.float64)
        log_ms = np.log(np.maximum(times_ms, FLOOR_MS))
        self._latest = layers, log_ms
        log_ratio = log_ms - log_expected[shape]
        excess = times_ms - expected_ms
        features = np.zeros((len(shape), 8))
        features[:, column.TIME] = batch.times_s[layers.rows]
        features[:, column.SLICE] = np.maximum.reduce(excess, 1) / total
        features[:, column.COMMON] = row_medians(log_ratio)
        sum_ms = np.add.reduce(times_ms, 1)
        features[:, column.TOTAL] = np.log(np.maximum(sum_ms, FLOOR_MS) / total)
        features[:, column.EXCESS] = np.add.reduce(np.maximum(excess, 0), 1) / total
        slower = np.add.reduce((log_ratio > 0.3) & (excess > 0.005), 1, float)
        features[:, column.SPREAD] = np.maximum(slower - 1, 0) / max(excess.shape[1] - 1, _FEW_LAYERS)
        features[:, column.JUDGED] = (seen[shape] >= needed) & ~skip[layers.rows]
        sizes = np.array([point.batch * point.length for point in points], float)[shape]
        return Sampled(
            layers.profile, layers.rows, times_ms, expected_ms, log_ratio, sum_ms - total, features, sizes
        )

    def learn(self, batch: Executions, layers: LayerTimes, points: list[Point], rows: Bools) -> None:
        """Fold in those of the sampled executions ([k] of `rows`) that were found healthy, or are part of the warm-up."""
        if some(rows):
            shape = batch.shape[layers.rows[rows]]
            if weight := self.baseline.weight(points, shape):
                self.baseline.learn(points, shape, self._log_ms(layers)[rows], weight)
        self._latest = None

    def _log_ms(self, layers: LayerTimes) -> F64:
        if self._latest is not None and self._latest[0] is layers:
            return self._latest[1]
        return np.log(np.maximum(layers.times_ms, FLOOR_MS, dtype=np.float64))

    def state(self) -> State:
        return {"baseline": self.baseline.state(), "levels": self.levels.heavy()}

    @classmethod
    def restore(cls, state: State, layers: list[Layer]) -> Lane:
        self = cls(layers)
        self.baseline = ShapeBaseline.restore(state["baseline"])
        self.levels = LevelWatch.restore(state["levels"], layers)
        return self
