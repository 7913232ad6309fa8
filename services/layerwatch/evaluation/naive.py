"""What anyone would try first, beside the detectors: two thresholds on end-to-end times, two Isolation Forests.

All four get the same help: they learn from the first quarter of an instance's executions, at most 1500, in buckets of
build, profile and shape; an alarm needs 3 of the latest 20 executions beyond the threshold, and lasts until 1 s
has passed without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from layerwatch.evaluation.executions import F64, InstanceTable, Layers
from layerwatch.evaluation.verdict import GRACE_S
from layerwatch.recording.recording import Phase

_LEARN_MOST, _LEARN_SHARE = 1500, 0.25
_SUPPORT = 8  # executions of a bucket before it is judged
_QUANTILE = 0.99
_HITS, _OF = 3, 20
_QUIET_S = 1.0
_EWMA_STEP, _EWMA_SUPPORT, _SIGMAS = 0.05, 30, 3.0
_LEAST_FIT = 50  # sampled executions before a forest is worth fitting
_HALF_TICK_MS = 5e-4

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NaiveVerdict:
    """How a naive detector did on a recording: `alarms_s` are the times at which its alarms opened."""

    name: str
    alarms_s: list[float]
    faults: int
    caught: int
    false_alarms: int


def compare(tables: list[InstanceTable], phases: Sequence[Phase]) -> list[NaiveVerdict]:
    """Each naive detector's alarms, judged by the rules of `verdict`; it names no cause and no layer."""
    return [
        _verdict(name, sorted(t for table in tables for t in alarms(table)), phases)
        for name, alarms in DETECTORS.items()
    ]


def p99(table: InstanceTable) -> list[float]:
    """Beyond the 99th percentile of its bucket's end-to-end times."""
    learn = _learning(len(table.times_s))
    hits = np.zeros(len(table.times_s), bool)
    for bucket in np.unique(table.bucket):
        of_it = np.flatnonzero(table.bucket == bucket)
        known = table.end_to_end_ms[of_it[of_it < learn]]
        if len(known) >= _SUPPORT:
            later = of_it[of_it >= learn]
            hits[later] = table.end_to_end_ms[later] > np.quantile(known, _QUANTILE)
    return _alarms(table.times_s, hits)


def ewma(table: InstanceTable) -> list[float]:
    """More than 3 sigmas above the moving average of its bucket's end-to-end times, which never stops moving."""
    hits = np.zeros(len(table.times_s), bool)
    levels: dict[int, tuple[float, float, int]] = {}
    for i, (bucket, value) in enumerate(
        zip(table.bucket.tolist(), table.end_to_end_ms.tolist(), strict=True)
    ):
        mean, variance, seen = levels.get(bucket, (value, 0.0, 0))
        step = value - mean
        hits[i] = seen > _EWMA_SUPPORT and step > _SIGMAS * variance**0.5
        variance = (1 - _EWMA_STEP) * (variance + _EWMA_STEP * step**2)
        levels[bucket] = mean + _EWMA_STEP * step, variance, seen + 1
    return _alarms(table.times_s, hits)


def forest_raw(table: InstanceTable) -> list[float]:
    """scikit-learn's Isolation Forest on the layer times of each sampled execution."""
    return _forest(table, lambda layers, _: layers.times_ms.astype(np.float64))


def forest_z(table: InstanceTable) -> list[float]:
    """The same on robust z-scores, each layer's within its bucket."""
    return _forest(table, lambda layers, learn: _standardised(layers, table.bucket[layers.rows], learn))


DETECTORS: dict[str, Callable[[InstanceTable], list[float]]] = {
    "p99 per shape": p99,
    "EWMA 3 sigma per shape": ewma,
    "Isolation Forest, raw layers": forest_raw,
    "Isolation Forest, z-scored layers": forest_z,
}


def _learning(executions: int) -> int:
    return min(_LEARN_MOST, int(_LEARN_SHARE * executions))


def _alarms(times_s: F64, hits: Bools) -> list[float]:
    """When alarms open: enough hits among the latest executions, after a quiet time."""
    dense = np.convolve(hits, np.ones(_OF, int))[: len(hits)] >= _HITS if len(hits) else hits
    opened, last_s = [], -np.inf
    for time_s in times_s[dense].tolist():
        if time_s - last_s > _QUIET_S:
            opened.append(time_s)
        last_s = time_s
    return opened


def _forest(table: InstanceTable, rows_of: Callable[[Layers, Bools], F64]) -> list[float]:
    """A forest for each build and profile; the threshold is the 99th percentile of what all of them were fitted on."""
    at, scores, learnt = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, bool)]
    for layers in table.layers:
        learn = layers.rows < _learning(len(table.times_s))
        values = rows_of(layers, learn)
        judged = np.isfinite(values).all(axis=1)
        if (learn & judged).sum() < _LEAST_FIT:
            continue
        forest = IsolationForest(n_estimators=100, random_state=0).fit(values[learn & judged])
        at.append(layers.rows[judged])
        scores.append(-forest.score_samples(values[judged]))
        learnt.append(learn[judged])
    order = np.argsort(np.concatenate(at), kind="stable")
    rows, score, known = (np.concatenate(parts)[order] for parts in (at, scores, learnt))
    if not len(rows):
        return []
    hits = (score > np.quantile(score[known], _QUANTILE)) & ~known
    return _alarms(table.times_s[rows], hits)


def _standardised(layers: Layers, bucket: NDArray[np.int64], learn: Bools) -> F64:
    """Robust z-scores; NaN in buckets that were hardly seen while learning."""
    times_ms = layers.times_ms.astype(np.float64)
    z = np.full(times_ms.shape, np.nan)
    for one in np.unique(bucket[learn]):
        known = times_ms[learn & (bucket == one)]
        if len(known) >= _SUPPORT:
            centre = np.median(known, axis=0)
            spread = 1.4826 * np.median(np.abs(known - centre), axis=0) + _HALF_TICK_MS
            z[bucket == one] = (times_ms[bucket == one] - centre) / spread
    return z


def _verdict(name: str, alarms_s: list[float], phases: Sequence[Phase]) -> NaiveVerdict:
    faults = [phase for phase in phases if not phase.healthy]

    def within(phase: Phase, times_s: Iterable[float], grace_s: float = 0.0) -> bool:
        return any(phase.start_s <= time_s <= phase.end_s + grace_s for time_s in times_s)

    caught = sum(within(fault, alarms_s) for fault in faults)
    false_alarms = sum(not any(within(fault, [time_s], GRACE_S) for fault in faults) for time_s in alarms_s)
    return NaiveVerdict(name, alarms_s, len(faults), caught, false_alarms)
