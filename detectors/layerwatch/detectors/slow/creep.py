"""What rises too slowly for any forecaster to be surprised: levels of quarter hours and of whole hours against earlier ones.

Up to 1 % an hour is healthy (temperature, clocks, allocators), +5 % an hour is not. A rise counts if it is fast, large, and
beyond what the same stream has done within as long a time during the day before; twice in a row. A quarter hour sees a rise
early where levels are steady, an hour where they swing by several percent within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from layerwatch.detectors.arrays import F32, F64, Bools, Ints, State

QUARTER_MINUTES = 15

_KEPT = 96 + 16  # quarter hours: a day before the longest rise
_LEAST_QUARTERS = 24  # six hours: what is usual has to be known first
_LEAST_PAST = 16  # rises that say what is usual
_HEALTHY_PER_HOUR = 0.01  # log units
_LEAST_PER_HOUR = 0.025  # between what is healthy and what is not
_LEAST_RISE = 0.04
_TIMES_LARGEST = 2.0  # the largest rise within as long a time during the day before
_LEAST_BLOCKS = 5  # in a quarter hour


class _Span(NamedTuple):
    """How a rise is looked for; `width` and `lag` in quarter hours."""

    width: int  # of a level
    lag: int  # from the earlier level to the later one
    spreads: float  # beyond what the stream did within as long a time during the day before


#: The rises of a daily cycle spread by as much as the largest of them is, so that more than 2.5 would outdo `_TIMES_LARGEST`
#: there. Whole hours need more: few of a day's rises from one to another are independent.
_SPANS = (_Span(1, 4, 2.5), _Span(1, 8, 2.5), _Span(1, 16, 2.5), _Span(4, 8, 4.0), _Span(4, 12, 4.0))


@dataclass(frozen=True, slots=True)
class Rises:
    """Of each stream, the rise that stands out most [streams]; 0 where none does."""

    rise: F64  # log units
    hours: F64  # within so long
    minutes: Ints  # since it began: since a tenth of it had come
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

    def _close(self, quarters: int) -> Rises:
        shift = min(max(quarters, 1), _KEPT)
        blocks = np.minimum(self._sofar, QUARTER_MINUTES)
        level = np.full(len(blocks), np.nan, np.float32)
        for count in np.unique(blocks[blocks >= _LEAST_BLOCKS]).tolist():
            at = blocks == count
            level[at] = _level(self._values[at, :count])
        self._levels = np.roll(self._levels, -shift, 1)
        self._levels[:, -shift:] = np.nan
        self._levels[:, -shift] = level
        self._sofar[:] = 0
        return self._rises()

    def _rises(self) -> Rises:
        streams = len(self._levels)
        rise, hours, usual = np.zeros(streams), np.zeros(streams), np.zeros(streams)
        minutes = np.zeros(streams, np.int64)
        found = np.zeros(streams, bool)
        old_enough = np.count_nonzero(~np.isnan(self._levels), axis=1) >= _LEAST_QUARTERS
        for span in _SPANS:
            levels = _means(self._levels, span.width)
            now = levels[:, -1] - levels[:, -1 - span.lag]
            least = max(_LEAST_RISE, _LEAST_PER_HOUR * span.lag / 4)
            at = np.flatnonzero(old_enough & (now > least) & ~found)
            if not len(at):
                continue
            expected = _usual(levels[at], span)
            beyond = now[at] > expected
            at, expected = at[beyond], expected[beyond]
            rise[at], hours[at], usual[at], found[at] = now[at], span.lag / 4, expected, True
            minutes[at] = [_minutes(levels[stream, -1 - span.lag :]) for stream in at]
        twice = found & self._before
        self._before = found
        return Rises(np.where(twice, rise, 0.0), hours, minutes, usual)

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


def _level(values: F32) -> F32:
    """Means of blocks without the lowest and the highest one [streams]. Levels that jump to and fro between two values move
    a median by all of the distance, a mean by the time they spend there."""
    inner = values.sum(1) - values.min(1) - values.max(1)
    return np.asarray(inner / np.float32(values.shape[1] - 2), np.float32)


def _means(levels: F32, width: int) -> F32:
    """Of each of the [streams, quarters] and those before it, `width` in all; NaN where more than one of several is not known."""
    windows = sliding_window_view(levels, width, axis=1)
    count = np.count_nonzero(~np.isnan(windows), axis=2)
    mean = np.nansum(windows, axis=2) / np.maximum(count, 1).astype(np.float32)
    out = np.full_like(levels, np.nan)
    out[:, width - 1 :] = np.where(count >= max(width - 1, 1), mean, np.nan)
    return out


def _usual(levels: F32, span: _Span) -> F64:
    """The largest rise to be expected [streams]; infinite where too little is known."""
    rises = levels[:, span.lag :] - levels[:, : -span.lag]
    past = rises[:, : 1 - span.lag - span.width]  # these end where the latest one begins
    count = np.count_nonzero(~np.isnan(past), axis=1)
    out = np.full(len(levels), np.inf)
    some = count >= _LEAST_PAST
    past = past[some]
    middle = np.nanmedian(past, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(past - middle[:, None]), axis=1)
    beyond = np.maximum(span.spreads * spread, _TIMES_LARGEST * np.nanmax(past, axis=1))
    out[some] = _HEALTHY_PER_HOUR * span.lag / 4 + beyond
    return out


def _minutes(levels: F32) -> int:
    """How many minutes ago a rise from the first of the levels to the last began."""
    low = np.flatnonzero(levels <= levels[0] + 0.1 * (levels[-1] - levels[0]))
    return int((len(levels) - 1 - low[-1]) * QUARTER_MINUTES)
