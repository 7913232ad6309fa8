"""One build and optimization profile: the baseline of its layers, and what its sampled executions look like against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors import layer_watch as column
from layerwatch.detectors.arrays import F64, Bools, Ints, State, clipped, median, row_medians
from layerwatch.detectors.baseline import FLOOR_MS, SPARSE_SUPPORT, SUPPORT, ShapeBaseline
from layerwatch.detectors.batch import Executions, LayerTimes
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.shapes import Point

_BLOCK = 50  # sampled executions that a layer's level is averaged over
_PERSISTENT = 0.5  # log units beyond the common mode: one layer 1.65 times as slow
_SHARE = 0.04  # of the sum of layers, below which one layer's slowdown is nobody's concern


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled executions of one lane: `rows` [k] of the batch, times and expectations [k, layers], ring columns [k, 8]."""

    profile: int
    rows: Ints
    times_ms: F64
    expected_ms: F64
    log_ratio: F64
    features: F64

    @property
    def excess_ms(self) -> F64:
        """[k] by how much the sum of layers exceeds what it should be."""
        excess: F64 = (self.times_ms - self.expected_ms).sum(1)
        return excess


class Lane:
    """Baseline and single-layer channel of one layer set."""

    def __init__(self, layers: int) -> None:
        self.baseline = ShapeBaseline(layers)
        self._block = np.zeros(layers)
        self._block_seen = 0
        self._previous: F64 | None = None
        self._wander: F64 | None = None  # largest healthy block level of each layer
        self._blocks = 0

    def compare(
        self, batch: Executions, layers: LayerTimes, points: list[Point], skip: Bools
    ) -> Sampled | None:
        """Sampled executions against the baseline; None until there is one."""
        if not self.baseline.fitted:
            return None
        shape = batch.shape[layers.rows]
        needed = SUPPORT if batch.rate >= 1.0 else SPARSE_SUPPORT
        log_expected, seen = self.baseline.expected(points)
        log_expected = log_expected[shape]
        times_ms = layers.times_ms.astype(np.float64)
        log_ratio = np.log(np.maximum(times_ms, FLOOR_MS)) - log_expected
        expected_ms = np.exp(log_expected)
        excess = times_ms - expected_ms
        total = expected_ms.sum(1)
        features = np.zeros((len(shape), 8))
        features[:, column.TIME] = batch.times_s[layers.rows]
        features[:, column.SLICE] = excess.max(1) / total
        features[:, column.COMMON] = row_medians(log_ratio)
        features[:, column.TOTAL] = np.log(np.maximum(times_ms.sum(1), FLOOR_MS) / total)
        features[:, column.EXCESS] = np.maximum(excess, 0).sum(1) / total
        features[:, column.SPREAD] = ((log_ratio > 0.3) & (excess > 0.005)).mean(1)
        features[:, column.JUDGED] = (seen[shape] >= needed) & ~skip[layers.rows]
        return Sampled(layers.profile, layers.rows, times_ms, expected_ms, log_ratio, features)

    def learn(self, batch: Executions, layers: LayerTimes, points: list[Point], rows: Bools) -> None:
        """Fold in those of the sampled executions ([k] of `rows`) that were found healthy, or are part of the warm-up."""
        if rows.any():
            log_ms = np.log(np.maximum(layers.times_ms[rows].astype(np.float64), FLOOR_MS))
            self.baseline.learn(points, batch.shape[layers.rows[rows]], log_ms)

    def level(self, sampled: Sampled, watching: bool) -> Finding | None:
        """One layer slower than its kind for two blocks of executions in a row; learns its wander while not `watching`."""
        judged = sampled.features[:, column.JUDGED] > 0
        self._block += clipped(sampled.log_ratio[judged], 1.5).sum(0)
        self._block_seen += int(judged.sum())
        if self._block_seen < _BLOCK:
            return None
        level = self._block / self._block_seen
        level -= median(level)
        self._block, self._block_seen = np.zeros_like(level), 0
        previous, self._previous = self._previous, level
        if not watching or self._wander is None or self._blocks < 4:
            self._wander = np.abs(level) if self._wander is None else np.maximum(self._wander, np.abs(level))
            self._blocks += 1
            return None
        if previous is None:
            return None
        both = np.minimum(level, previous)
        expected = sampled.expected_ms.mean(0)
        share = np.expm1(both) * expected / expected.sum()
        threshold = np.maximum(_PERSISTENT, 3 * self._wander + 0.3)
        slow = (both > threshold) & (share > _SHARE)
        if not slow.any():
            return None
        worst = int(np.argmax(np.where(slow, share, 0)))
        onset_s = float(sampled.features[0, column.TIME])
        return Finding("single_layer", float(both[worst]), float(threshold[worst]), onset_s)

    def clear(self) -> None:
        self._block[:] = 0
        self._block_seen, self._previous = 0, None

    def state(self) -> State:
        return {
            "baseline": self.baseline.state(),
            "wander": None if self._wander is None else self._wander.astype(np.float32),
            "blocks": self._blocks,
        }

    @classmethod
    def restore(cls, state: State) -> Lane:
        baseline = ShapeBaseline.restore(state["baseline"])
        self = cls(baseline.outputs)
        self.baseline = baseline
        self._wander = None if state["wander"] is None else state["wander"].astype(np.float64)
        self._blocks = state["blocks"]
        return self
