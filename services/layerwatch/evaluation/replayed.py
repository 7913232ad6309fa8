"""Real noise for simulated months: levels of seconds from the healthy phases of recordings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from layerwatch.detectors.arrays import F64, median
from layerwatch.recording.recording import Recording

_LEAST_EXECUTIONS = 10  # in a second
_LEAST_SECONDS = 20
_SKIPPED_S = 1.0  # at a phase's beginning: what came before may still be felt


def stretches(recordings: Iterable[Recording]) -> list[F64]:
    """Medians of seconds of the log end-to-end time against the shape's own median, phase by phase; a straight line through
    each phase is taken out, since so many seconds stand for as many minutes."""
    out = []
    for recording in recordings:
        times_s, log_ratio = _ratios(recording)
        for phase in recording.phases:
            inside = (times_s >= phase.start_s + _SKIPPED_S) & (times_s < phase.end_s)
            if not phase.healthy or not inside.any():
                continue
            levels = _levels(times_s[inside], log_ratio[inside])
            if len(levels) >= _LEAST_SECONDS:
                x = np.arange(len(levels))
                out.append(levels - np.polyval(np.polyfit(x, levels, 1), x))
    return out


def _ratios(recording: Recording) -> tuple[F64, F64]:
    """Times and log-ratios of executions to the median of their build, profile and shape."""
    groups: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for batch in recording:
        times_s = np.frombuffer(batch.times_s)
        log_ms = np.log(np.frombuffer(batch.end_to_end_ms, "<f4").astype(float))
        shape = np.frombuffer(batch.shape_index, "<u2")
        profile = np.frombuffer(batch.profile_index, "u1")
        names = [repr(one) for one in batch.shapes]
        for i in range(len(times_s)):
            key = batch.engine, int(profile[i]), names[shape[i]]
            groups.setdefault(key, []).append((float(times_s[i]), float(log_ms[i])))
    parts = []
    for rows in groups.values():
        array = np.array(rows)
        if len(array) >= _LEAST_EXECUTIONS:
            parts.append(np.column_stack((array[:, 0], array[:, 1] - median(array[:, 1]))))
    together = np.concatenate(parts) if parts else np.empty((0, 2))
    together = together[np.argsort(together[:, 0], kind="stable")]
    return together[:, 0], together[:, 1]


def _levels(times_s: F64, log_ratio: F64) -> F64:
    second = np.floor(times_s - times_s[0]).astype(int)
    cuts = np.flatnonzero(np.diff(second)) + 1
    return np.array([median(part) for part in np.split(log_ratio, cuts) if len(part) >= _LEAST_EXECUTIONS])
