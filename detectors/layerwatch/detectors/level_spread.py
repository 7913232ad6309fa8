"""How far levels usually stray while nothing is wrong, and from where on that is a step."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, Ints, State

_MEMORY = 24  # blocks
_PEAK_MEMORY = 0.998  # of the largest healthy step, at each block
_PEAKS = 1.5  # times the largest healthy step
_AT_FIRST = 0.02  # log units
_UNSETTLED, _NO_STEP_YET = 3, 4  # blocks: references are still moving, and so are the first steps


class LevelSpread:
    """Usual size and largest healthy step of series, in [rows].

    `least` [series]: effects that matter (log units); `spreads` [series]: how many times its usual size is no chance.
    """

    def __init__(self, rows: int, least: F64, spreads: F64) -> None:
        self._least, self._spreads = least, spreads
        self._usual = np.full((rows, len(least)), _AT_FIRST)
        self._peak = np.zeros((rows, len(least)))
        self.blocks: Ints = np.zeros(rows, np.int64)

    def weight(self, count: int) -> F64:
        """Inverse variances of the first `count` series, [rows, count]."""
        weight: F64 = 1 / (self._usual[:, :count] ** 2 + 1e-4)
        return weight

    def thresholds(self) -> F64:
        """[rows, series]"""
        thresholds: F64 = np.maximum(
            self._least, np.maximum(self._spreads * self._usual, _PEAKS * self._peak + 0.2 * self._least)
        )
        return thresholds

    def learn(self, deviation: F64, step: F64 | None, rows: Bools) -> None:
        """Fold a healthy block in, where it says something of [rows]. `step`: what it shows together with the one before."""
        self.blocks += rows
        share = (rows & (self.blocks > _UNSETTLED)) / np.minimum(np.maximum(self.blocks, 1), _MEMORY)
        capped = np.minimum(np.abs(deviation), 4 * self._usual + _AT_FIRST)
        # 1.25: from mean absolute deviation to standard deviation
        self._usual += share[:, None] * (1.25 * capped - self._usual)
        if step is not None:
            known = rows & (self.blocks > _NO_STEP_YET)
            self._peak = np.where(known[:, None], np.maximum(_PEAK_MEMORY * self._peak, step), self._peak)

    def state(self) -> State:
        return {"blocks": self.blocks, "spread": np.array((self._usual, self._peak), np.float16)}

    def load(self, state: State) -> None:
        self.blocks = state["blocks"].copy()
        self._usual, self._peak = state["spread"].astype(np.float64)
