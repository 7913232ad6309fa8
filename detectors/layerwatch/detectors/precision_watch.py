"""Watches how much of a quantised tensor lies at or past its calibrated range: clipped values are wrong in silence.

Where an engine of higher precision runs beside it, the error of the outputs against that one's is a second witness.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.batch import Precision
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.ring import Ring

_WARM_UP = 100
_WINDOW, _LEAST_HITS = 20, 10
_TIMES_USUAL = 10.0
_LEAST_CLIPPED = 0.005  # of a tensor's values; less than this no output has been seen to feel
_ERROR_TIMES_USUAL, _LEAST_ERROR = 3.0, 0.005  # relative L2 of the outputs


class PrecisionWatch:
    """Channel `clipping`, and `reference_error` beside it, never alone; needs `_WARM_UP` executions whose tensors were looked at first."""

    def __init__(self) -> None:
        self._thresholds: F64 | None = None  # [tensors]
        self._ring: Ring | None = None  # TIME, then a column a tensor
        self._errors = Ring(_WARM_UP, 2)  # TIME, relative L2
        self._usual_error: float | None = None
        self.worst = 0  # tensor that the latest finding is about
        self.clipped = 0.0  # median share of it that is clipped
        self.usual = 0.0

    def step(self, times_s: F64, precision: Precision) -> list[Finding]:
        """Judge executions; [] while warming up. What was judged healthy is not learnt from: ranges are fixed."""
        if self._ring is None:
            self._ring = Ring(_WARM_UP, 1 + precision.clipped.shape[1])
        self._ring.push(np.column_stack((times_s, precision.clipped)))
        if len(precision.error):
            self._errors.push(np.column_stack((times_s, precision.error)))
        rows = self._ring.last(_WARM_UP)
        if self._thresholds is None:
            if len(rows) == _WARM_UP:
                self._thresholds = np.maximum(_TIMES_USUAL * np.median(rows[:, 1:], axis=0), _LEAST_CLIPPED)
                errors = self._errors.last(_WARM_UP)
                if len(errors) == _WARM_UP:
                    self._usual_error = float(np.median(errors[:, 1]))
            return []
        rows = rows[-_WINDOW:]
        hits = (rows[:, 1:] > self._thresholds).any(axis=1)
        if hits.sum() < _LEAST_HITS:
            return []
        clipped = np.median(rows[hits, 1:], axis=0)
        self.worst = int(np.argmax(clipped / self._thresholds))
        self.clipped = float(clipped[self.worst])
        self.usual = float(self._thresholds[self.worst])
        onset_s = float(rows[np.argmax(hits), 0])
        return [Finding("clipping", self.clipped, self.usual, onset_s), *self._error(onset_s)]

    def _error(self, onset_s: float) -> list[Finding]:
        if self._usual_error is None:
            return []
        threshold = max(_ERROR_TIMES_USUAL * self._usual_error, _LEAST_ERROR)
        rows = self._errors.last(_WINDOW)
        hits = rows[:, 1] > threshold
        if hits.sum() < _LEAST_HITS:
            return []
        return [Finding("reference_error", float(np.median(rows[hits, 1])), threshold, onset_s)]

    def clear(self) -> None:
        if self._ring is not None and self._thresholds is not None:
            self._ring.clear()
            self._errors.clear()

    def state(self) -> State:
        return {
            "thresholds": self._thresholds,
            "ring": None if self._ring is None else self._ring.state(),
            "errors": self._errors.state(),
            "usual_error": self._usual_error,
        }

    @classmethod
    def restore(cls, state: State) -> PrecisionWatch:
        self = cls()
        self._thresholds = state["thresholds"]
        self._ring = None if state["ring"] is None else Ring.restore(state["ring"])
        if "errors" in state:  # not in states of before
            self._errors = Ring.restore(state["errors"])
            self._usual_error = state["usual_error"]
        return self
