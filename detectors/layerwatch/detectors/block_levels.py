"""How long the blocks of a model take against a baseline, by size of input: levels in time, and how far they drift.

An execution gives a row: for each block the log-ratio of its time less the common mode of the execution, and the common
mode itself. What all layers share (clocks, temperature, launches) is in the latter; a block's own time is in the former.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F64, Ints, State, column_medians
from layerwatch.detectors.baseline import FLOOR_MS
from layerwatch.detectors.shapes import Point

_LEVEL, _LEVEL_S = 5, 0.5  # executions of one size, and the time they take, whose median is a level
_KEPT = 24  # latest levels of each size
_LONG, _KEPT_LONG = 8, 16  # levels whose mean is a long one, and how many of those are kept
_MOST_PENDING = 64
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
    rows = np.arange(len(ratio))
    order = np.argsort(ratio, axis=1, kind="stable")
    reached = np.cumsum(expected_ms[rows[:, None], order], axis=1)
    middle = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)
    common = ratio[rows, order[rows, middle]]
    return np.column_stack((ratio - common[:, None], common))


@dataclass(frozen=True, slots=True)
class Level:
    """Of one size: mean [blocks + 1] of the latest levels, variance of one about it, and how many there are.

    `drift`: the largest departure from the mean of three levels in a row, or of a long level before them.
    """

    mean: F64
    variance: F64
    count: int
    drift: F64


class BlockLevels:
    """The latest levels of each size of input, `width` columns."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._pending: dict[int, F64] = {}  # size: [k, 1 + width], time first
        self._levels: dict[int, deque[F64]] = {}
        self._long: dict[int, deque[F64]] = {}
        self._since_long: dict[int, int] = {}

    def push(self, times_s: F64, sizes: Ints, rows: F64) -> None:
        """Add executions: time [k], size [k], rows [k, width] of `contrasts`."""
        timed = np.column_stack((times_s, rows))
        for size in sorted(set(sizes.tolist())):
            mine = timed[sizes == size]
            before = self._pending.get(size)
            if before is not None:
                mine = np.concatenate((before, mine))
            elif len(self._pending) >= _MAX_SIZES:
                continue
            seconds, begin = mine[:, 0].tolist(), 0
            while (end := _end_of_level(seconds, begin)) is not None:
                self._add(size, _rounded(column_medians(mine[begin:end, 1:])))
                begin = end
            self._pending[size] = mine[begin:]

    def _add(self, size: int, level: F64) -> None:
        levels = self._levels.setdefault(size, deque(maxlen=_KEPT))
        levels.append(level)
        self._since_long[size] = self._since_long.get(size, 0) + 1
        if self._since_long[size] == _LONG:
            self._since_long[size] = 0
            mean = _rounded(np.mean(list(levels)[-_LONG:], axis=0))
            self._long.setdefault(size, deque(maxlen=_KEPT_LONG)).append(mean)

    def known(self, size: int) -> int:
        """How many levels of a size are known, of those that are kept."""
        return len(self._levels.get(size, ()))

    def settled(self, sizes: Ints) -> bool:
        """Whether as many levels as are kept are known of all these sizes."""
        return all(len(self._levels.get(size, ())) == _KEPT for size in set(sizes.tolist()))

    def level(self, size: int) -> Level | None:
        """None before there are three levels."""
        levels = self._levels.get(size, ())
        if len(levels) < _IN_A_ROW:
            return None
        values = np.array(levels)
        mean = values.mean(0)
        sums = np.cumsum(np.vstack((np.zeros(self.width), values - mean)), axis=0)
        together = (sums[_IN_A_ROW:] - sums[:-_IN_A_ROW]) / _IN_A_ROW
        drift = np.abs(together).max(0)
        if size in self._long:
            drift = np.maximum(drift, np.abs(np.array(self._long[size]) - mean).max(0))
        return Level(mean, values.var(0, ddof=1), len(values), drift)

    def state(self) -> State:
        return {"width": self.width, "sizes": {str(size): self._state_of(size) for size in self._pending}}

    def _state_of(self, size: int) -> State:
        rows = self._pending[size]
        return {
            "times": rows[:, 0].copy(),
            "pending": rows[:, 1:].astype(np.float32),
            "levels": self._kept(self._levels, size),
            "long": self._kept(self._long, size),
            "since_long": self._since_long.get(size, 0),
        }

    def _kept(self, of: dict[int, deque[F64]], size: int) -> NDArray[np.float16]:
        return np.array(of.get(size, ()), np.float16).reshape(-1, self.width)

    @classmethod
    def restore(cls, state: State) -> BlockLevels:
        self = cls(state["width"])
        for size, kept in ((int(size), kept) for size, kept in state["sizes"].items()):
            self._pending[size] = np.column_stack((kept["times"], kept["pending"].astype(np.float64)))
            self._since_long[size] = kept["since_long"]
            if len(kept["levels"]):
                self._levels[size] = deque(kept["levels"].astype(np.float64), maxlen=_KEPT)
            if len(kept["long"]):
                self._long[size] = deque(kept["long"].astype(np.float64), maxlen=_KEPT_LONG)
        return self


def _rounded(level: F64) -> F64:
    """As it is kept, so that a restart changes nothing."""
    return level.astype(np.float16).astype(np.float64)


def _end_of_level(times_s: list[float], begin: int) -> int | None:
    """Where the level that begins at an execution ends; None while it needs more of them."""
    count = len(times_s) - begin
    if count < _LEVEL:
        return None
    end = max(_LEVEL, bisect_left(times_s, times_s[begin] + _LEVEL_S, begin) - begin + 1)
    if end > count:
        return begin + _MOST_PENDING if count >= _MOST_PENDING else None
    return begin + min(end, _MOST_PENDING)
