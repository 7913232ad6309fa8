"""What rises too slowly for any forecaster to be surprised: levels of quarter hours against those one, two and four hours before.

Up to 1 % an hour is healthy (temperature, clocks, allocators), +5 % an hour is not. A rise counts if it is fast, large, and
beyond what the same stream has done within as long a time during the day before; twice in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F64, Bools, Ints, State

QUARTER_MINUTES = 15

_KEPT = 96 + 16  # quarter hours: a day before the longest rise
_RISES = (4, 8, 16)  # quarter hours
_LEAST_QUARTERS = 24  # six hours: what is usual has to be known first
_LEAST_PAST = 16  # rises that say what is usual
_HEALTHY_PER_HOUR = 0.01  # log units
_LEAST_PER_HOUR = 0.025  # between what is healthy and what is not
_LEAST_RISE = 0.04
_SPREADS, _TIMES_LARGEST = 4.0, 2.0  # beyond what the stream did within as long a time during the day before
_LEAST_BLOCKS = 5  # in a quarter hour


@dataclass(frozen=True, slots=True)
class Rises:
    """Of each stream, the rise that stands out most [streams]; 0 where none does."""

    rise: F64  # log units
    hours: F64  # within so long
    usual: F64  # largest rise within as long a time that was to be expected


class Creep:
    """Of `streams`; every stream's quarter hours are the same ones."""

    def __init__(self, streams: int) -> None:
        self._quarter = -1
        self._sofar: Ints = np.zeros(streams, np.int64)  # blocks in the present quarter
        self._values = np.zeros((streams, QUARTER_MINUTES), np.float32)
        self._levels = np.full((streams, _KEPT), np.nan, np.float32)  # newest last
        self._before: Bools = np.zeros(streams, bool)

    def update(self, values: F64, present: Bools, minute: int) -> Rises | None:
        """Fold in a block that ended in the given minute; what rises, when a quarter hour has ended with it."""
        quarter = minute // QUARTER_MINUTES
        out = None
        if quarter != self._quarter:
            if self._quarter >= 0:
                out = self._close(quarter - self._quarter)
            self._quarter = quarter
        at = np.flatnonzero(present)
        self._values[at, self._sofar[at] % QUARTER_MINUTES] = values[at]
        self._sofar[at] += 1
        return out

    def began(self, stream: int, hours: float) -> int:
        """How many minutes ago a rise within the latest `hours` began: when a tenth of it had come."""
        quarters = round(4 * hours)
        levels = self._levels[stream, -quarters - 1 :]
        low = np.flatnonzero(levels <= levels[0] + 0.1 * (levels[-1] - levels[0]))
        return int((quarters - low[-1]) * QUARTER_MINUTES)

    def _close(self, quarters: int) -> Rises:
        shift = min(max(quarters, 1), _KEPT)
        known = self._sofar >= _LEAST_BLOCKS
        level = np.full(len(known), np.nan, np.float32)
        whole = known & (self._sofar >= QUARTER_MINUTES)
        level[whole] = np.median(self._values[whole], axis=1)
        for stream in np.flatnonzero(known & ~whole):
            level[stream] = np.median(self._values[stream, : self._sofar[stream]])
        self._levels = np.roll(self._levels, -shift, 1)
        self._levels[:, -shift:] = np.nan
        self._levels[:, -shift] = level
        self._sofar[:] = 0
        return self._rises()

    def _rises(self) -> Rises:
        levels = self._levels
        streams = len(levels)
        rise, hours, usual = np.zeros(streams), np.zeros(streams), np.zeros(streams)
        found = np.zeros(streams, bool)
        old_enough = np.count_nonzero(~np.isnan(levels), axis=1) >= _LEAST_QUARTERS
        for lag in _RISES:
            now = levels[:, -1] - levels[:, -1 - lag]
            least = max(_LEAST_RISE, _LEAST_PER_HOUR * lag / 4)
            at = np.flatnonzero(old_enough & (now > least) & ~found)
            if not len(at):
                continue
            expected = _usual(levels[at], lag)
            beyond = now[at] > expected
            at, expected = at[beyond], expected[beyond]
            rise[at], hours[at], usual[at], found[at] = now[at], lag / 4, expected, True
        twice = found & self._before
        self._before = found
        return Rises(np.where(twice, rise, 0.0), hours, usual)

    def state(self) -> State:
        return {
            "quarter": self._quarter,
            "sofar": self._sofar,
            "values": self._values,
            "levels": self._levels,
            "before": self._before,
        }

    @classmethod
    def restore(cls, state: State) -> Creep:
        self = cls(len(state["sofar"]))
        self._quarter, self._sofar, self._before = state["quarter"], state["sofar"], state["before"]
        self._values, self._levels = state["values"], state["levels"]
        return self


def _usual(levels: NDArray[np.float32], lag: int) -> F64:
    """The largest rise over `lag` quarter hours to be expected [streams]; infinite where too little is known."""
    past = levels[:, lag:-lag] - levels[:, : -2 * lag]  # none of them overlaps the latest one
    count = np.count_nonzero(~np.isnan(past), axis=1)
    out = np.full(len(levels), np.inf)
    some = count >= _LEAST_PAST
    past = past[some]
    middle = np.nanmedian(past, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(past - middle[:, None]), axis=1)
    beyond = np.maximum(_SPREADS * spread, _TIMES_LARGEST * np.nanmax(past, axis=1))
    out[some] = _HEALTHY_PER_HOUR * lag / 4 + beyond
    return out
