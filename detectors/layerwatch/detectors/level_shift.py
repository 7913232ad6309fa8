"""A step of the levels of layers, as it is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, State

#: On which executions: all, or the half with smaller inputs, or larger ones.
HALVES = ("", "smaller", "larger")


@dataclass(frozen=True, slots=True)
class LevelShift:
    """`channel`: single_layer, layer_group or common_level; `half`: one of HALVES; `excess_ms` and `expected_ms` [layers]."""

    channel: str
    where: str  # name of the layer or group
    half: str
    score: float
    threshold: float
    share: float  # of the expected sum of layers
    onset_s: float
    excess_ms: F64
    expected_ms: F64

    def state(self) -> State:
        scalars = [self.channel, self.where, self.half, self.score, self.threshold, self.share, self.onset_s]
        return {"scalars": scalars, "ms": np.array([self.excess_ms, self.expected_ms], np.float32)}

    @classmethod
    def restore(cls, state: State) -> LevelShift:
        excess_ms, expected_ms = state["ms"].astype(np.float64)
        channel, where, half, score, threshold, share, onset_s = state["scalars"]
        return cls(channel, where, half, score, threshold, share, onset_s, excess_ms, expected_ms)
