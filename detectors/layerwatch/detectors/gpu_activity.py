"""Work on the GPU beyond what the instance has shown before: counters come without sampling, and show a neighbour first.

A neighbour that is busy for a tenth of a second now and then moves no median and slows few executions; the second largest
of twenty readings shows it.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State
from layerwatch.schemas.profiles import COUNTER_COLUMNS

_READINGS = 20
_LARGEST = 2  # of them, from the top
#: Counters looked at, and by how much each must exceed what is usual at the least: percent, and MiB/s.
_LEAST = {
    "sm_utilisation_pct": 2.0,
    "tensor_active_pct": 1.0,
    "dram_bandwidth_pct": 2.0,
    "pcie_rx_mib_s": 2000.0,
}
_TIMES = 1.5  # the largest healthy one
_FADES = 0.9998  # of what was the largest, at each look: half in an hour
_ACCEPTED_S = 30.0  # of such readings in all, and nothing came of it: this is what the instance does
_GAP_S = 2.0  # between two looks, at most counted

_IDLE_SM_PCT = 50.0  # up to this, work of somebody else would show

_COLUMNS = [COUNTER_COLUMNS.index(name) for name in _LEAST]
_TIME = COUNTER_COLUMNS.index("time_s")
_MARGIN = np.array(list(_LEAST.values()))


class GpuActivity:
    """Of one build on one instance; `unusual` is what the latest readings show."""

    def __init__(self) -> None:
        self.unusual = False
        self._peak: F64 | None = None  # largest healthy values
        self._unusual_s = 0.0  # in all, since something was last accepted
        self._looked_s = 0.0

    def update(self, readings: F64, warming_up: bool, healthy: bool) -> None:
        """Judge the latest readings, rows of `COUNTER_COLUMNS`, after new ones have come.

        `healthy`: nothing else is wrong, so that they may be learnt from.
        """
        if len(readings) < _READINGS:
            return
        latest = readings[-_READINGS:]
        # A counter that is not there is NaN, which sorts last and exceeds nothing.
        busy = np.partition(latest[:, _COLUMNS], _READINGS - _LARGEST, axis=0)[_READINGS - _LARGEST]
        now_s = float(latest[-1, _TIME])
        if self._peak is None or warming_up:
            self._peak = busy if self._peak is None else np.fmax(self._peak, busy)
            return
        self.unusual = bool((busy > np.maximum(_TIMES * self._peak, self._peak + _MARGIN)).any())
        if self.unusual and healthy:
            self._unusual_s += min(max(now_s - self._looked_s, 0.0), _GAP_S)
        self._looked_s = now_s
        accepted = self._unusual_s > _ACCEPTED_S
        if healthy and (accepted or not self.unusual):
            self._peak = np.fmax(_FADES * self._peak, busy)
        if accepted:
            self._unusual_s = 0.0

    @property
    def nobody_else(self) -> bool:
        """Whether the counters know, and say that nobody else is on the GPU."""
        return self._peak is not None and bool(self._peak[0] < _IDLE_SM_PCT) and not self.unusual

    def state(self) -> State:
        return {
            "unusual": self.unusual,
            "peak": self._peak,
            "unusual_s": self._unusual_s,
            "looked_s": self._looked_s,
        }

    @classmethod
    def restore(cls, state: State) -> GpuActivity:
        self = cls()
        self.unusual, self._peak = state["unusual"], state["peak"]
        self._unusual_s, self._looked_s = state["unusual_s"], state["looked_s"]
        return self
