"""Which layers, which shapes: sums over the affected executions of an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors import layer_watch as column
from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.sampled import Sampled
from layerwatch.schemas.alerts import LayerExcess
from layerwatch.schemas.engines import Layer

_MOST = 10
_LEAST_RATIO = 1.1
_AFFECTED_COMMON, _AFFECTED_TOTAL, _AFFECTED_SLICE = 0.10, 0.15, 0.10


@dataclass(slots=True)
class _Sums:
    observed_ms: F64
    expected_ms: F64
    executions: int


class LayerExcesses:
    """Observed and expected times of each layer of each profile, over affected executions."""

    def __init__(self) -> None:
        self._sums: dict[int, _Sums] = {}

    def add(self, sampled: Sampled, onset_s: float) -> None:
        f = sampled.features
        slow = (
            (f[:, column.COMMON] > _AFFECTED_COMMON)
            | (f[:, column.TOTAL] > _AFFECTED_TOTAL)
            | (f[:, column.SLICE] > _AFFECTED_SLICE)
        )
        rows = slow & (f[:, column.JUDGED] > 0) & (f[:, column.TIME] >= onset_s)
        if not rows.any():
            return
        layers = sampled.times_ms.shape[1]
        sums = self._sums.setdefault(sampled.profile, _Sums(np.zeros(layers), np.zeros(layers), 0))
        sums.observed_ms += sampled.times_ms[rows].sum(0)
        sums.expected_ms += sampled.expected_ms[rows].sum(0)
        sums.executions += int(rows.sum())

    def ranked(self, names: dict[int, list[Layer]]) -> list[LayerExcess]:
        """Layers by mean excess, largest first, at most 10 and only those a tenth slower than they should be."""
        found = []
        for profile, sums in self._sums.items():
            observed, expected = sums.observed_ms / sums.executions, sums.expected_ms / sums.executions
            excess = observed - expected
            for index in np.argsort(-excess)[:_MOST]:
                if excess[index] > 0 and observed[index] >= _LEAST_RATIO * expected[index]:
                    layer = names[profile][index]
                    found.append(
                        LayerExcess(
                            name=layer.name,
                            group=layer.group,
                            index=int(index),
                            baseline_ms=round(float(expected[index]), 6),
                            observed_ms=round(float(observed[index]), 6),
                            ratio=round(float(observed[index] / max(expected[index], 1e-6)), 3),
                            excess_ms=round(float(excess[index]), 6),
                        )
                    )
        return sorted(found, key=lambda layer: -layer.excess_ms)[:_MOST]

    def state(self) -> State:
        return {
            str(profile): [s.observed_ms.astype(np.float32), s.expected_ms.astype(np.float32), s.executions]
            for profile, s in self._sums.items()
        }

    @classmethod
    def restore(cls, state: State) -> LayerExcesses:
        self = cls()
        for profile, (observed, expected, executions) in state.items():
            self._sums[int(profile)] = _Sums(
                observed.astype(np.float64), expected.astype(np.float64), executions
            )
        return self
