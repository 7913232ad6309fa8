"""Watches the levels of many streams, block by block: sudden shifts that are small, and slow ones.

A shift needs evidence (an e-detector over its threshold) and an effect; evidence says how sure one can be, and the effect
whether anyone should care. A stream whose p-values are not independent is `degraded`: what it finds is only worth knowing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F64, Bools, Ints, State
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.slow.conformal import Ranks, rounded
from layerwatch.detectors.slow.creep import Creep
from layerwatch.detectors.slow.edetector import EDetector
from layerwatch.detectors.slow.forecasts import Forecasts
from layerwatch.detectors.slow.gate import Gate

#: A shift of the level that is worth a person's time (log units): 5 %.
LEAST_SHIFT = 0.05

#: Blocks of a month.
MONTH_BLOCKS = 30 * 24 * 60

_RECENT = 96  # values kept, to say how large a shift is
_AFTER, _BEFORE = 15, 60  # blocks that the new and the old level are taken from
_LEAST_AFTER = 3
_BACK_BLOCKS = 5
_ACCEPTED_BLOCKS = 360  # six hours at a new level: it is the level now
_NONE, _SHIFT, _CREEP = range(3)
KINDS = ("", "shift", "creep")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a block showed of each stream; all [streams]."""

    opened: Ints  # index into KINDS: what has begun to alarm with this block
    closed: Bools
    p: F64
    evidence: F64


class Watch:
    """Of `streams`, sharing a budget of `pages_per_month` false alarms between them.

    Args:
        seeds: [streams] tell the random numbers of streams apart.
        lstm: a fitted forecaster; None leaves the other two.
    """

    def __init__(
        self,
        streams: int,
        seeds: NDArray[np.uint64],
        lstm: LstmWeights | None = None,
        pages_per_month: float = 1.0,
    ) -> None:
        self.threshold = MONTH_BLOCKS * streams / pages_per_month
        self.forecasts = Forecasts(streams, lstm)
        self._ranks = Ranks(streams, seeds)
        self._evidence = EDetector(streams)
        self._gate = Gate(streams)
        self._creep = Creep(streams)
        self._recent = np.full((streams, _RECENT), np.nan, np.float32)  # newest last
        self._block = 0
        self.suspected = False  # by evidence that a stream gathers once in a month while nothing changes
        self.alarm: Ints = np.zeros(streams, np.int64)  # index into KINDS
        self.since: Ints = np.zeros(
            streams, np.int64
        )  # blocks since a shift's onset, minutes since a creep's
        self.doubtful: Bools = np.zeros(streams, bool)  # the stream was degraded when its alarm opened
        self.shift = np.zeros(streams)  # of the alarm, log units
        self.usual = np.zeros(streams)  # of a creep: what was to be expected; of a shift: evidence it needed
        self.hours = np.zeros(streams)  # of a creep
        self._before = np.zeros(streams)  # level before the alarm
        self._peak = np.zeros(streams)  # largest shift while it lasts
        self._open_blocks: Ints = np.zeros(streams, np.int64)

    @property
    def degraded(self) -> Bools:
        return self._gate.degraded

    def update(self, values: F64, minute: int) -> Judged:
        """Fold in the levels [streams] of a block that ended in `minute` (of event time); NaN where there is none."""
        present = ~np.isnan(values)
        value = np.where(present, rounded(np.where(present, values, 0.0)), 0.0).astype(np.float64)
        spread = self.forecasts.spread.copy()
        residual = self.forecasts.update(value, present)
        self._remember(value, present)
        score = residual / spread
        p = np.where(present, self._ranks.p_values(score, self._block), np.nan)
        calm = self.alarm == _NONE
        evidence = self._evidence.update(np.where(calm, p, np.nan))
        self.suspected = bool((evidence >= MONTH_BLOCKS).any())
        opened = self._open_shifts(evidence, calm & present)
        opened = self._open_creeps(value, present, minute, opened)
        closed = self._close(present & (opened == _NONE))
        shifting = self.alarm != _NONE
        self._gate.update(np.where(shifting, np.nan, p), opened != _NONE)
        settled = self._open_blocks > _BEFORE
        self._ranks.learn(score, present & (~shifting | settled), opened != _NONE)
        self._block += 1
        return Judged(opened, closed, p, evidence)

    def level(self, stream: int) -> float:
        """Of late; log units."""
        return float(np.nanmedian(self._recent[stream, -_BACK_BLOCKS:]))

    def _remember(self, value: F64, present: Bools) -> None:
        at = np.flatnonzero(present)
        if len(at) == len(value):
            self._recent[:, :-1] = self._recent[:, 1:]
        else:
            self._recent[at, :-1] = self._recent[at, 1:]
        self._recent[at, -1] = value[at]

    def _open_shifts(self, evidence: F64, watched: Bools) -> Ints:
        opened = np.zeros(len(evidence), np.int64)
        for stream in np.flatnonzero(watched & (evidence >= self.threshold)).tolist():
            run = int(self._evidence.run_blocks[stream])
            if run + 1 < _LEAST_AFTER:
                continue
            shift, before = self._shift(stream, run + 1)
            if not shift >= LEAST_SHIFT:
                continue
            self._begin(stream, _SHIFT, run, shift, before)
            self.usual[stream] = evidence[stream]
            opened[stream] = _SHIFT
        return opened

    def _shift(self, stream: int, run: int) -> tuple[float, float]:
        """By how much the latest `run` blocks are above those before, and the level of those."""
        recent = self._recent[stream]
        run = min(run, _RECENT - _BEFORE)
        after = float(np.median(recent[-min(run, _AFTER) :]))
        before = float(np.nanmedian(recent[-run - _BEFORE : -run]))
        return after - before, before

    def _open_creeps(self, value: F64, present: Bools, minute: int, opened: Ints) -> Ints:
        rises = self._creep.update(value, present, minute)
        if rises is None:
            return opened
        for stream in np.flatnonzero((rises.rise > 0) & (self.alarm == _NONE)).tolist():
            since, rise = int(rises.minutes[stream]), float(rises.rise[stream])
            self._begin(stream, _CREEP, since, rise, self.level(stream) - rise)
            self.usual[stream], self.hours[stream] = rises.usual[stream], rises.hours[stream]
            opened[stream] = _CREEP
        return opened

    def _begin(self, stream: int, kind: int, since: int, shift: float, before: float) -> None:
        self.alarm[stream], self.since[stream] = kind, since
        self.doubtful[stream] = self.degraded[stream]
        self.shift[stream], self._before[stream] = shift, before
        self._peak[stream] = shift
        self._open_blocks[stream] = 0
        self._evidence.reset(np.arange(len(self.alarm)) == stream)

    def _close(self, present: Bools) -> Bools:
        """Alarms of streams that are back half way, or have kept the new level for six hours."""
        closed = np.zeros(len(present), bool)
        for stream in np.flatnonzero(present & (self.alarm != _NONE)).tolist():
            self._open_blocks[stream] += 1
            level = self.level(stream) - self._before[stream]
            self._peak[stream] = max(self._peak[stream], level)
            if (
                self.alarm[stream] == _SHIFT
            ):  # what is told must be what is, not the worst that noise made of it
                after = self._recent[
                    stream, -min(int(self.since[stream]) + 1 + int(self._open_blocks[stream]), _AFTER) :
                ]
                self.shift[stream] = float(np.nanmedian(after)) - self._before[stream]
            if level < self._peak[stream] / 2 or self._open_blocks[stream] >= _ACCEPTED_BLOCKS:
                self.alarm[stream], closed[stream] = _NONE, True
        return closed

    def state(self) -> State:
        return {
            "forecasts": self.forecasts.state(),
            "ranks": self._ranks.state(),
            "evidence": self._evidence.state(),
            "gate": self._gate.state(),
            "creep": self._creep.state(),
            "recent": self._recent.astype(np.float16),
            "block": self._block,
            "threshold": self.threshold,
            "alarms": {name: getattr(self, name) for name in _ALARM},
        }

    @classmethod
    def restore(cls, state: State, lstm: LstmWeights | None) -> Watch:
        ranks = Ranks.restore(state["ranks"])
        self = cls(len(state["recent"]), state["ranks"]["seeds"], None)
        self.threshold, self._block, self._ranks = state["threshold"], state["block"], ranks
        self.forecasts = Forecasts.restore(state["forecasts"], lstm)
        self._evidence = EDetector.restore(state["evidence"])
        self._gate = Gate.restore(state["gate"])
        self._creep = Creep.restore(state["creep"])
        self._recent = state["recent"].astype(np.float32)
        for name in _ALARM:
            setattr(self, name, state["alarms"][name])
        return self


_ALARM = ("alarm", "since", "doubtful", "shift", "usual", "hours", "_before", "_peak", "_open_blocks")
