"""Watches what it costs that a context switches its optimization profile: it computes shapes and tactics anew before its next inference.

26 to 51 ms instead of 3 on one engine, 3 instead of 2 on another: a few that are spikes say enough, more are needed of those
that are merely slower than all that is beside them.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, State, median
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.ring import Ring

_KEPT = 32
#: Log units: a switch that costs 2.7x; of so many the latest, so many.
_SPIKE, _LATEST, _SPIKES = 1.0, 4, 3
#: A quarter more than what they have always cost, and than the others' median, on shapes that are known: of so many the latest,
#: so many, while at most this share of the others is as slow. Half of the latest keep open what was found.
_SLOW, _KNOWN, _KNOWN_SLOW, _LINGERING = 0.25, 7, 6, 4
_OTHERS_SLOW = 0.05

_TIME, _RATIO, _JUDGED = range(3)


class SwitchWatch:
    """Channel `profile_switch`. Ratios are log units of end-to-end time above what the shape should take."""

    def __init__(self) -> None:
        self._usual = 0.0  # what a switch has always cost
        self._kept = Ring(_KEPT, 3)

    def warm_up(self, ratios: F64) -> None:
        """Of healthy switches on known shapes, if there were any."""
        self._usual = max(0.0, median(ratios)) if len(ratios) else 0.0

    def step(self, times_s: F64, ratios: F64, judged: Bools, others: F64) -> Finding | None:
        """New switches, whether their shapes are known, and the ratios of the latest executions without one."""
        self._kept.push(np.column_stack((times_s, ratios, judged)))
        latest = self._kept.last(_LATEST)
        slow, beyond = latest[latest[:, _RATIO] > _SPIKE], _SPIKE
        if len(slow) < _SPIKES:
            slow, beyond = self._slow(others)
            if len(slow) < _KNOWN_SLOW:
                return None
        return Finding("profile_switch", median(slow[:, _RATIO]), beyond, float(slow[0, _TIME]))

    def lingers(self, others: F64) -> bool:
        """Whether the latest ones keep open what was found."""
        return len(self._slow(others)[0]) >= _LINGERING

    def clear(self) -> None:
        """Forget the latest ones."""
        self._kept.clear()

    def _slow(self, others: F64) -> tuple[F64, float]:
        """Of the latest switches on known shapes, those beyond what is returned with them; none where others are as slow."""
        kept = self._kept.last(_KEPT)
        known = kept[kept[:, _JUDGED] > 0][-_KNOWN:]
        if not len(others):
            return known[:0], 0.0
        beyond = max(median(others), 0.0) + self._usual + _SLOW
        if float((others > beyond).mean()) > _OTHERS_SLOW:
            return known[:0], beyond
        return known[known[:, _RATIO] > beyond], beyond

    def state(self) -> State:
        return {"usual": self._usual, "kept": self._kept.state()}

    @classmethod
    def restore(cls, state: State) -> SwitchWatch:
        self = cls()
        self._usual, self._kept = state["usual"], Ring.restore(state["kept"])
        return self
