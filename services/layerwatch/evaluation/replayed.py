"""Real noise for simulated months: levels of 50 executions each from the healthy phases of recordings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from layerwatch.detectors.arrays import F32, F64, Bools
from layerwatch.detectors.batch import executions_of
from layerwatch.detectors.shapes import point_of
from layerwatch.detectors.slow import block as b
from layerwatch.detectors.slow.reference import Reference, points_of
from layerwatch.recording.recording import Recording

_EXECUTIONS = 50  # of a block: as many as the slow path wants at least
_LEAST_BLOCKS = 8  # of a stretch
_SKIPPED_S = 1.0  # at a phase's beginning: what came before may still be felt
_PARTS = 8  # in which the reference is taught
_SHAPE = [b.BATCH, b.LENGTH, b.ALIGNMENT]


def stretches(recordings: Iterable[Recording]) -> list[F64]:
    """Levels of consecutive blocks against the slow path's own reference, phase by phase, in log units: of the sum of layers
    and of end-to-end times.

    A straight line through each phase is taken out: a block of a third of a second stands for one of a minute, and drift
    would come 200 times too fast.
    """
    out: list[F64] = []
    for recording in recordings:
        for times_s, rows in _builds(recording):
            phases = [
                (times_s >= phase.start_s + _SKIPPED_S) & (times_s < phase.end_s)
                for phase in recording.phases
                if phase.healthy
            ]
            out += _levels(rows, phases)
    return out


def _builds(recording: Recording) -> Iterable[tuple[F64, F32]]:
    """Times and rows of a block of the executions of each build whose layers are known."""
    manifests = {manifest.engine: manifest for manifest in recording.manifests}
    parts: dict[str, list[tuple[F64, F32]]] = {}
    for batch in recording:
        executions = executions_of(batch, manifests[batch.engine])
        points = [point_of(shape) for shape in executions.shapes]
        for layers in executions.layers:
            rows = np.empty((len(layers.rows), b.COLUMNS), np.float32)
            if len(rows):
                rows[:, : b.PROFILE] = [points[i] for i in executions.shape[layers.rows]]
                rows[:, b.PROFILE] = layers.profile
                rows[:, b.LOG_END_TO_END] = np.log(executions.end_to_end_ms[layers.rows])
                rows[:, b.LOG_LAYERS] = np.log(np.maximum(layers.times_ms.sum(1), 1e-6))
                parts.setdefault(batch.engine, []).append((executions.times_s[layers.rows], rows))
    for build in parts.values():
        times_s, rows = (np.concatenate(column) for column in zip(*build, strict=True))
        order = np.argsort(times_s, kind="stable")
        yield times_s[order], rows[order]


def _levels(rows: F32, phases: list[Bools]) -> list[F64]:
    reference = Reference()
    healthy = np.flatnonzero(np.any(phases, axis=0)) if phases else np.empty(0, np.int64)
    for part in np.array_split(healthy, _PARTS):
        taught = rows[part]
        reference.learn(taught[:, [*_SHAPE, b.LOG_END_TO_END]], taught[:, [*_SHAPE, b.LOG_LAYERS]])
    if not reference.ready:
        return []
    points, at = points_of(rows)
    expected = reference.expected(points)[at]
    out = []
    for phase in phases:
        for kind, column in enumerate((b.LOG_END_TO_END, b.LOG_LAYERS)):
            ratio = rows[phase, column] - expected[phase, kind]
            ratio = ratio[~np.isnan(ratio)]
            blocks = len(ratio) // _EXECUTIONS
            if blocks >= _LEAST_BLOCKS:
                levels = np.median(ratio[: blocks * _EXECUTIONS].reshape(blocks, -1), axis=1)
                x = np.arange(blocks)
                out.append(levels - np.polyval(np.polyfit(x, levels, 1), x))
    return out
