"""The GPU's own counters: what is usual for this instance, and what they show now. Absent on GPUs before Hopper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.ring import Ring
from layerwatch.schemas.profiles import COUNTER_COLUMNS

_WARM_UP = 20  # samples, 0.1 to 1 s apart
_CLOCKS = [COUNTER_COLUMNS.index("sm_clock_mhz"), COUNTER_COLUMNS.index("memory_clock_mhz")]
_COVERS_S, _ENOUGH, _MOST = 0.1, 3, 5  # a sample tells of the time before it; so many tell of an episode


@dataclass(frozen=True, slots=True)
class GpuView:
    """What is usual, and what an episode shows. NaN where the GPU has no such counter."""

    usual: F64
    now: F64

    def usually(self, name: str) -> float:
        return float(self.usual[COUNTER_COLUMNS.index(name)])

    def at(self, name: str) -> float:
        return float(self.now[COUNTER_COLUMNS.index(name)])

    def both(self, name: str, unit: str = "%") -> str:
        return f"{self.usually(name):.0f} -> {self.at(name):.0f} {unit}"

    @property
    def known(self) -> bool:
        """Whether there are utilisation counters to reason with."""
        return bool(np.isfinite([self.at("sm_utilisation_pct"), self.usually("sm_utilisation_pct")]).all())


class GpuCounters:
    """The latest minute of counters, and their medians over the warm-up."""

    def __init__(self) -> None:
        self._ring = Ring(120, len(COUNTER_COLUMNS))
        self._usual: F64 | None = None

    def push(self, rows: F64) -> None:
        if len(rows):
            self._ring.push(rows)

    @property
    def knows_usual(self) -> bool:
        return self._usual is not None

    def learn(self) -> None:
        """What was seen so far is usual, if it is enough."""
        if len(self._ring) >= _WARM_UP:
            self._usual = _at(self._ring.last(len(self._ring)), 0.5)

    def latest(self) -> F64:
        """The readings kept, rows of `COUNTER_COLUMNS`, newest last."""
        return self._ring.last(len(self._ring))

    def clear(self) -> None:
        """Forget the latest samples; what is usual stays."""
        self._ring.clear()

    def view(self, onset_s: float, until_s: float) -> GpuView | None:
        """Usual values (medians) beside those at the end of a stretch of time; None without either."""
        rows = self._ring.since(onset_s + _COVERS_S)
        if np.count_nonzero(rows[:, 0] <= until_s) < _ENOUGH:
            rows = self._ring.since(onset_s - 0.3)
        rows = rows[rows[:, 0] <= until_s]
        # The onset may lie before the trouble, in a pause at that, and a neighbour pauses: the upper quarter of the newest.
        newest = rows[-min(max(_ENOUGH, (len(rows) + 1) // 2), _MOST) :]
        if self._usual is None or not len(rows):
            return None
        now = _at(newest, 0.75)
        now[_CLOCKS] = _at(newest, 0.25)[_CLOCKS]  # throttling comes and goes, too, and lowers
        return GpuView(self._usual, now)

    def seen_since(self, time_s: float) -> int | None:
        """Samples known since a time; None where counters do not come at all."""
        if self._usual is None:
            return None
        return len(self._ring.since(time_s))

    def clock_drop(self) -> float:
        """Log-ratio by which the SM clock is below its usual value; 0 where it is not, or not known."""
        if self._usual is None or not len(self._ring):
            return 0.0
        column = COUNTER_COLUMNS.index("sm_clock_mhz")
        usual, now = float(self._usual[column]), float(self._ring.last(1)[0, column])
        return max(0.0, float(np.log(usual / now))) if usual > 0 and now > 0 else 0.0

    def state(self) -> State:
        return {"ring": self._ring.state(), "usual": self._usual}

    @classmethod
    def restore(cls, state: State) -> GpuCounters:
        self = cls()
        self._ring, self._usual = Ring.restore(state["ring"]), state["usual"]
        return self


def _at(rows: F64, quantile: float) -> F64:
    """Of each counter; NaN where it is not there."""
    known = np.isfinite(rows).any(axis=0)
    values = np.full(rows.shape[1], np.nan)
    values[known] = np.nanquantile(rows[:, known], quantile, axis=0)
    return values
