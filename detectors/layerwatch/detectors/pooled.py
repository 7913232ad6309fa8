"""Pooled features of a window of executions, free of units: what the Isolation Forest reads.

Raw layer vectors hide one slow layer among hundreds; these few order statistics do not. They are standardised by the
instance's own healthy windows, so that one model serves engines of any size.
"""

from __future__ import annotations

import hashlib

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.ring import Ring

WINDOW = 50
STRIDE = 25  # executions between two windows
LEAST_SAMPLED = 8
_WARM_UP_WINDOWS, _SPARSE_WARM_UP_WINDOWS = 12, 40  # where few executions are sampled, windows differ more
_SPREAD_FLOOR = 0.02

NAMES = (
    "sum_p50",
    "sum_p90",
    "slice_p50",
    "slice_p95",
    "common_p50",
    "excess_p50",
    "excess_p90",
    "spread_p90",
    "host_p50",
    "host_p90",
    "host_p98",
    "host_over_half",
)

#: Models fitted on other features must not be scored with these.
SCHEMA = hashlib.sha256(repr((NAMES, WINDOW, STRIDE, "median-mad-1")).encode()).hexdigest()[:16]


def pooled(executions: F64, sampled: F64) -> F64 | None:
    """[len(NAMES)] of the newest rows of both rings; None where too few executions were sampled."""
    if len(executions) < WINDOW or len(sampled) < LEAST_SAMPLED:
        return None
    layers = np.sort(sampled, axis=0)
    host = np.sort(executions[:, e.HOST])

    def at(column: int, q: float) -> float:
        return float(layers[min(int(q * len(layers)), len(layers) - 1), column])

    return np.array(
        [
            at(s.TOTAL, 0.5),
            at(s.TOTAL, 0.9),
            at(s.SLICE, 0.5),
            at(s.SLICE, 0.95),
            at(s.COMMON, 0.5),
            at(s.EXCESS, 0.5),
            at(s.EXCESS, 0.9),
            at(s.SPREAD, 0.9),
            host[len(host) // 2],
            host[int(0.9 * len(host))],
            host[int(0.98 * len(host))],
            np.count_nonzero(host > 0.5) / len(host),
        ]
    )


class Standardiser:
    """Robust centre and spread of an instance's healthy windows; None until it has seen enough of them."""

    def __init__(self) -> None:
        self._windows = Ring(200, len(NAMES))
        self._centre: F64 | None = None
        self._spread: F64 | None = None
        self.widest = 0.0  # largest standardised value while healthy

    def __call__(self, window: F64) -> F64 | None:
        if self._centre is None or self._spread is None:
            return None
        return (window - self._centre) / self._spread

    def learn(self, window: F64, sampled_all: bool) -> None:
        """Fold in a healthy window. The reference is fixed once it stands: what drifts later is the forest's to see."""
        if self._centre is not None:
            return
        self._windows.push(window[None, :])
        if len(self._windows) < (_WARM_UP_WINDOWS if sampled_all else _SPARSE_WARM_UP_WINDOWS):
            return
        windows = self._windows.last(len(self._windows))
        self._centre = np.median(windows, axis=0)
        self._spread = 1.4826 * np.median(np.abs(windows - self._centre), axis=0) + _SPREAD_FLOOR
        self.widest = float(np.abs((windows - self._centre) / self._spread).max())
        self._windows.clear()

    def state(self) -> State:
        return {
            "windows": self._windows.last(len(self._windows)).astype(np.float32),
            "centre": self._centre,
            "spread": self._spread,
            "widest": self.widest,
        }

    @classmethod
    def restore(cls, state: State) -> Standardiser:
        self = cls()
        self._windows.push(state["windows"].astype(np.float64).reshape(-1, len(NAMES)))
        self._centre, self._spread, self.widest = state["centre"], state["spread"], state["widest"]
        return self
