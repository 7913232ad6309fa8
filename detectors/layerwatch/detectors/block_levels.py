"""How long the blocks of a model take against a baseline, by size of input: levels in time, and how far they drift.

An execution gives a row: for each block the log-ratio of its time less the common mode of the execution, and the common
mode itself. What all layers share (clocks, temperature, launches) is in the latter; a block's own time is in the former.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State
from layerwatch.detectors.baseline import FLOOR_MS
from layerwatch.detectors.shapes import Point

_LEVEL = 5  # executions of one size whose median is a level
_KEPT = 16  # latest levels of each size
_MAX_SIZES = 32
_IN_A_ROW = 3  # levels; what as many show together is no noise of single ones


def size_of(point: Point) -> int:
    """Octave of batch x length: 9 holds 512..1023 elements."""
    return math.floor(math.log2(point.batch * point.length))


def contrasts(observed_ms: F64, expected_ms: F64) -> F64:
    """[k, blocks + 1] of block times [k, blocks]: log-ratios less the common mode, which is the last column.

    The common mode is the log-ratio of the block at which half of the expected time is reached, from the fastest on: no
    single block moves it.
    """
    ratio = np.log(np.maximum(observed_ms, FLOOR_MS) / np.maximum(expected_ms, FLOOR_MS))
    order = np.argsort(ratio, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(expected_ms, order, axis=1), axis=1)
    middle = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)
    rows = np.arange(len(ratio))
    common = ratio[rows, order[rows, middle]]
    return np.column_stack((ratio - common[:, None], common))


@dataclass(frozen=True, slots=True)
class Level:
    """Of one size: mean [blocks + 1], variance of a single level about it, levels seen, and `drift`: the largest
    departure of three levels in a row from the mean."""

    mean: F64
    variance: F64
    count: int
    drift: F64


class BlockLevels:
    """The latest levels of each size of input, `width` columns."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._pending: dict[int, F64] = {}
        self._levels: dict[int, deque[F64]] = {}

    def push(self, sizes: Ints, rows: F64) -> None:
        """Add executions: size [k] of each, rows [k, width] of `contrasts`."""
        for size in np.unique(sizes).tolist():
            mine = rows[sizes == size]
            before = self._pending.get(size)
            if before is not None:
                mine = np.concatenate((before, mine))
            elif len(self._pending) >= _MAX_SIZES:
                continue
            whole = len(mine) // _LEVEL
            if whole:
                levels = np.median(mine[: whole * _LEVEL].reshape(whole, _LEVEL, self.width), axis=1)
                self._levels.setdefault(size, deque(maxlen=_KEPT)).extend(levels)
            self._pending[size] = mine[whole * _LEVEL :]

    def level(self, size: int) -> Level | None:
        """None before there are three levels."""
        levels = self._levels.get(size, ())
        if len(levels) < _IN_A_ROW:
            return None
        values = np.array(levels)
        mean = values.mean(0)
        sums = np.cumsum(np.vstack((np.zeros(self.width), values - mean)), axis=0)
        together = (sums[_IN_A_ROW:] - sums[:-_IN_A_ROW]) / _IN_A_ROW
        return Level(mean, values.var(0, ddof=1), len(values), np.abs(together).max(0))

    def state(self) -> State:
        return {
            "width": self.width,
            "sizes": list(self._pending),
            "pending": [rows.astype(np.float32) for rows in self._pending.values()],
            "levels": [
                np.array(self._levels.get(size, ()), np.float32).reshape(-1, self.width)
                for size in self._pending
            ],
        }

    @classmethod
    def restore(cls, state: State) -> BlockLevels:
        self = cls(state["width"])
        for size, pending, levels in zip(state["sizes"], state["pending"], state["levels"], strict=True):
            self._pending[size] = pending.astype(np.float64)
            if len(levels):
                self._levels[size] = deque(levels.astype(np.float64), maxlen=_KEPT)
        return self
