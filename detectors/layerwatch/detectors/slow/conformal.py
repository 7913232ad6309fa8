"""Online conformal p-values of many streams: the rank of a score among the stream's own latest ones.

If scores are exchangeable the p-values are uniform and independent, whatever their distribution (Vovk, Gammerman and
Shafer, Algorithmic Learning in a Random World, 2005). With a window and without the scores of alarms it holds nearly.
Ties are broken at random, by numbers that depend on stream and block alone: a replay gives the same p-values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F64, Bools, Ints, State
from layerwatch.detectors.slow.waiting import Waiting

#: Scores that a new one is ranked among.
WINDOW = 480

_LEAST = 40  # scores before there is a p-value


class Ranks:
    """The latest scores of `streams`; `seeds` [streams] tell their random numbers apart."""

    def __init__(self, streams: int, seeds: NDArray[np.uint64]) -> None:
        self._seeds = seeds
        self._count: Ints = np.zeros(streams, np.int64)
        self._scores = np.full((WINDOW, streams), -np.inf, np.float32)
        self._waiting = Waiting(streams)

    def p_values(self, scores: F64, block: int) -> F64:
        """How rarely a healthy score is as large [streams]; NaN while there are too few to say. `block` is its number."""
        score = rounded(scores)
        known = np.minimum(self._count, WINDOW)
        above = _count(self._scores > score)
        ties = _count(self._scores >= score) - above
        p = (above + uniform(self._seeds, block) * (ties + 1)) / (known + 1)
        out: F64 = np.where(known >= _LEAST, p, np.nan)
        return out

    def learn(self, scores: F64, healthy: Bools, alarm: Bools) -> None:
        """Add those of the scores that are `healthy`, after a while; where there is an `alarm`, none that still waits."""
        score = self._waiting.push(np.where(healthy, rounded(scores), np.nan))
        at = np.flatnonzero(~np.isnan(score))
        self._scores[self._count[at] % WINDOW, at] = score[at]
        self._count[at] += 1
        if alarm.any():
            self._waiting.void(alarm)

    def state(self) -> State:
        return {
            "count": self._count,
            "scores": self._scores.astype(np.float16),
            "waiting": self._waiting.state(),
            "seeds": self._seeds,
        }

    @classmethod
    def restore(cls, state: State) -> Ranks:
        self = cls(len(state["count"]), state["seeds"])
        self._count, self._scores = state["count"], state["scores"].astype(np.float32)
        self._waiting = Waiting.restore(state["waiting"])
        return self


def _count(of: Bools) -> Ints:
    """[streams] how many of [WINDOW, streams] are true; numpy's own way takes three times as long."""
    parts = np.add.reduce(of.view(np.uint8).reshape(4, WINDOW // 4, -1), axis=1, dtype=np.uint8)
    out: Ints = parts.sum(0, dtype=np.int64)
    return out


def rounded(values: F64) -> NDArray[np.float32]:
    """To what half precision holds, three digits: state is kept in it, and a restart must change nothing."""
    return np.clip(values, -6e4, 6e4).astype(np.float16).astype(np.float32)


def uniform(seeds: NDArray[np.uint64], counter: int) -> F64:
    """Numbers in (0, 1) [streams] that depend on seed and counter alone (SplitMix64; Steele, Lea and Flood 2014)."""
    step = np.uint64((counter * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    x = seeds + step  # wraps
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    out: F64 = ((x >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return out
