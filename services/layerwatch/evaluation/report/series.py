"""A recording's executions and counters as a few hundred points each: what a picture can show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.evaluation.executions import F64, InstanceTable, Ints
from layerwatch.recording.recording import Recording
from layerwatch.schemas.profiles import COUNTER_COLUMNS

BINS = 300


@dataclass(frozen=True, slots=True)
class Series:
    """`times_s` [bins] since the recording's start; a line is [bins], NaN where nothing ran."""

    name: str
    unit: str
    times_s: F64
    lines: dict[str, F64]


def end_to_end(recording: Recording, tables: list[InstanceTable]) -> Series:
    """End-to-end times over the median of their shape."""
    parts = [(table.times_s, _over_usual(table.end_to_end_ms, table.bucket)) for table in tables]
    return _quantiles("end to end", recording, parts)


def sum_of_layers(recording: Recording, tables: list[InstanceTable]) -> Series:
    """The sum of the layers of sampled executions over the median of their shape."""
    parts = []
    for table in tables:
        for layers in table.layers:
            total_ms = np.maximum(layers.times_ms.sum(axis=1, dtype=np.float64), 1e-6)
            parts.append((table.times_s[layers.rows], _over_usual(total_ms, table.bucket[layers.rows])))
    return _quantiles("sum of layers", recording, parts)


def counters(recording: Recording) -> Series | None:
    """How busy the GPU was; None where its counters are not recorded."""
    parts = [np.frombuffer(batch.counters, "<f8") for batch in recording if batch.counters]
    width = len(COUNTER_COLUMNS)
    rows = np.concatenate(
        [part.reshape(-1, width) for part in parts if part.size % width == 0] or [np.empty((0, width))]
    )
    shown = {"SM": "sm_utilisation_pct", "DRAM": "dram_bandwidth_pct"}
    columns = {label: rows[:, COUNTER_COLUMNS.index(name)] for label, name in shown.items()}
    if not any(np.isfinite(values).any() for values in columns.values()):
        return None
    lines = {
        label: _binned(recording, rows[:, 0][np.isfinite(values)], values[np.isfinite(values)], (0.5,))[0]
        for label, values in columns.items()
    }
    return Series("GPU", "%", _centres(recording), lines)


def _over_usual(values: F64, bucket: Ints) -> F64:
    """Each value over the median of its bucket."""
    ratio = np.empty(len(values))
    for one in np.unique(bucket):
        of_it = bucket == one
        ratio[of_it] = values[of_it] / np.median(values[of_it])
    return ratio


def _quantiles(name: str, recording: Recording, parts: list[tuple[F64, F64]]) -> Series:
    times_s = np.concatenate([part[0] for part in parts] or [np.empty(0)])
    values = np.concatenate([part[1] for part in parts] or [np.empty(0)])
    median, tail = _binned(recording, times_s, values, (0.5, 0.99))
    return Series(name, "x", _centres(recording), {"p50": median, "p99": tail})


def _centres(recording: Recording) -> F64:
    width_s = max(recording.end_s - recording.start_s, 1e-3) / BINS
    return np.arange(0.5, BINS) * np.float64(width_s)


def _binned(recording: Recording, times_s: F64, values: F64, quantiles: tuple[float, ...]) -> F64:
    """[quantiles, bins]"""
    length_s = max(recording.end_s - recording.start_s, 1e-3)
    at = np.clip(((times_s - recording.start_s) / length_s * BINS).astype(int), 0, BINS - 1)
    order = np.argsort(at, kind="stable")
    at, sorted_values = at[order], values[order]
    out: F64 = np.full((len(quantiles), BINS), np.nan)
    starts = np.searchsorted(at, np.arange(BINS + 1))
    for column in range(BINS):
        inside = sorted_values[starts[column] : starts[column + 1]]
        if len(inside):
            out[:, column] = np.quantile(inside, quantiles)
    return out
