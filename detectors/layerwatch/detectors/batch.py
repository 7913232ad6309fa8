"""A message's columns as numpy arrays, checked: what the scorer takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F32, F64, Bools, Ints
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.profiles import (
    CHANGED_SHAPE,
    COUNTER_COLUMNS,
    IN_GRAPH,
    ON_TWIN,
    SWITCHED_PROFILE,
    LayerBlock,
    PrecisionBlock,
    ProfileBatch,
)

#: No execution takes longer than this; a time beyond it is a defect of whoever measured (ms).
_MAX_ERROR = 1e6  # stands for an infinite one
_MAX_MS = 3.6e6

#: The year 5138; beyond it, someone has sent milliseconds (unix s).
_MAX_S = 1e11

#: No counter comes near to it, and float32 holds it.
_MAX_COUNTER = 1e30

_MAX_DIMENSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Layers of `rows` [k] of a batch, all run with one optimization profile: `times_ms` [k, layers]."""

    profile: int
    rows: Ints
    times_ms: F32


@dataclass(frozen=True, slots=True)
class Precision:
    """Of `rows` [k] of a batch: `clipped` [k, tensors], the share of each tensor's values at or past its calibrated range.

    `error` [k]: relative L2 of the outputs against an engine of higher precision; [0] where none runs beside it.
    """

    rows: Ints
    clipped: F32
    error: F32


@dataclass(frozen=True, slots=True)
class Executions:
    """n executions of one instance, in order. Times in unix seconds, latencies in ms."""

    engine: str
    shapes: list[dict[str, list[int]]]
    times_s: F64  # [n] end of each execution
    shape: Ints  # [n] into `shapes`
    profile: Ints  # [n]
    switched: Bools  # [n] its context changed profile first
    changed: Ints  # [n] 1 where its context ran another shape before, as far as the runtime says so; else 0
    path: Ints  # [n] the bits ON_TWIN and IN_GRAPH, as far as the runtime says so
    end_to_end_ms: F64  # [n]
    layers: list[LayerTimes]
    counters: F64  # [m, 14], COUNTER_COLUMNS
    precision: Precision | None
    rate: float  # share of executions whose layers are sampled
    clock_s: float  # nothing before it is still to come

    def __len__(self) -> int:
        return len(self.times_s)


def executions_of(batch: ProfileBatch, manifest: Manifest) -> Executions:
    """The columns of a message; raises InvalidRecord (bad_column, bad_time, layer_count, unknown_profile)."""
    times_s = _column(batch.times_s, "<f8", "times_s")
    n = len(times_s)
    end_to_end_ms = _sized(batch.end_to_end_ms, "<f4", n, "end_to_end_ms").astype(np.float64)
    shape = _sized(batch.shape_index, "<u2", n, "shape_index").astype(np.int64)
    profile = _sized(batch.profile_index, "u1", n, "profile_index").astype(np.int64)
    flags = _sized(batch.flags, "u1", n, "flags") if batch.flags else np.zeros(n, np.uint8)
    counters = _column(batch.counters, "<f8", "counters")
    if len(counters) % len(COUNTER_COLUMNS):
        raise InvalidRecord(
            "bad_column", f"counters: {len(counters)} values are not rows of {len(COUNTER_COLUMNS)}"
        )
    counters = counters.reshape(-1, len(COUNTER_COLUMNS))
    _check_times(batch, times_s, end_to_end_ms, counters)
    if n and (
        shape.max() >= len(batch.shapes) or any(not _is_shape(*map(tuple, s.values())) for s in batch.shapes)
    ):
        raise InvalidRecord("bad_column", "shape_index points outside of shapes, or a shape is empty")
    counts = {p.profile: len(p.layers) for p in manifest.profiles}
    return Executions(
        engine=batch.engine,
        shapes=batch.shapes,
        times_s=times_s,
        shape=shape,
        profile=profile,
        switched=(flags & SWITCHED_PROFILE).astype(bool),
        changed=(flags & CHANGED_SHAPE > 0).astype(np.int64),
        path=(flags & (ON_TWIN | IN_GRAPH)).astype(np.int64),
        end_to_end_ms=end_to_end_ms,
        layers=[_layers(block, profile, counts) for block in batch.layers],
        counters=counters,
        precision=None if batch.precision is None else _precision(batch.precision, n, len(manifest.ranges)),
        rate=batch.rate if 0 < batch.rate <= 1 else 1.0,
        clock_s=batch.window_end_s,
    )


def _check_times(batch: ProfileBatch, times_s: F64, end_to_end_ms: F64, counters: F64) -> None:
    clocks = (batch.window_start_s, batch.window_end_s)
    if not 0 <= clocks[0] <= clocks[1] < _MAX_S:
        raise InvalidRecord("bad_time", f"window {clocks[0]}..{clocks[1]} s is not an interval of time")
    if not _are_times(times_s):
        raise InvalidRecord("bad_time", "times_s holds NaN, an infinity, or what are no unix seconds")
    if not _lie_within(end_to_end_ms, sys.float_info.min, _MAX_MS):
        raise InvalidRecord("bad_time", "end_to_end_ms holds NaN, an infinity or a time that is not positive")
    if not _are_times(counters[:, 0]):
        raise InvalidRecord("bad_time", "counters holds a row without a time")
    if len(counters) and (np.abs(counters[:, 1:]) > _MAX_COUNTER).any():
        raise InvalidRecord("bad_column", "counters holds an infinity")


def _are_times(times_s: F64) -> bool:
    return _lie_within(times_s, 0.0, _MAX_S)


def _lie_within(values: NDArray[Any], least: float, below: float) -> bool:
    """Whether all do; NaN does not."""
    if len(values) == 1:  # numpy takes a microsecond for each of the two
        return bool(least <= values[0] < below)
    return not len(values) or bool(values.min() >= least and values.max() < below)


def _layers(block: LayerBlock, profile: Ints, counts: dict[int, int]) -> LayerTimes:
    if block.profile not in counts:
        raise InvalidRecord("unknown_profile", f"profile {block.profile} is not in the engine's manifest")
    if block.layers != counts[block.profile] or not block.layers:
        raise InvalidRecord(
            "layer_count",
            f"{block.layers} layers where the manifest has {counts[block.profile]} for profile {block.profile}",
        )
    rows = _column(block.rows, "<u4", "rows").astype(np.int64)
    times_ms = _sized(block.times_ms, "<f4", len(rows) * block.layers, "times_ms").reshape(
        len(rows), block.layers
    )
    if not _ascend_within(rows, len(profile)):
        raise InvalidRecord("bad_column", "rows of a layer block must ascend within the message's executions")
    if len(rows) and not (times_ms.min() >= 0 and times_ms.max() < _MAX_MS):  # NaN is neither
        raise InvalidRecord("bad_time", "layer times hold NaN, an infinity or a negative time")
    return LayerTimes(block.profile, rows, times_ms)


def _ascend_within(rows: Ints, n: int) -> bool:
    """Whether unsigned numbers ascend, and are below n."""
    return not len(rows) or bool(rows[-1] < n and (len(rows) == 1 or (rows[1:] > rows[:-1]).all()))


def _precision(block: PrecisionBlock, n: int, tensors: int) -> Precision:
    if block.tensors != tensors or not tensors:
        raise InvalidRecord("tensor_count", f"{block.tensors} tensors where the manifest has {tensors}")
    rows = _column(block.rows, "<u4", "precision.rows").astype(np.int64)
    if not _ascend_within(rows, n):
        raise InvalidRecord(
            "bad_column", "rows of a precision block must ascend within the message's executions"
        )
    clipped = _sized(block.clipped, "<f4", len(rows) * tensors, "clipped").reshape(len(rows), tensors)
    if not ((clipped >= 0) & (clipped <= 1)).all():  # NaN is neither
        raise InvalidRecord("bad_column", "clipped holds a share that is not in 0..1")
    error = _sized(block.relative_l2, "<f4", len(rows) if block.relative_l2 else 0, "relative_l2")
    return Precision(rows, clipped, np.nan_to_num(error, nan=0.0, posinf=_MAX_ERROR))


def _column(data: bytes, dtype: str, name: str) -> NDArray[Any]:
    if len(data) % int(dtype[-1]):
        raise InvalidRecord("bad_column", f"{name}: {len(data)} bytes are not {dtype}")
    return np.frombuffer(data, dtype)


def _sized(data: bytes, dtype: str, n: int, name: str) -> NDArray[Any]:
    column = _column(data, dtype, name)
    if len(column) != n:
        raise InvalidRecord("bad_column", f"{name}: {len(column)} values where {n} are needed")
    return column


@lru_cache(maxsize=4096)
def _is_shape(*dims: tuple[int, ...]) -> bool:
    """Of all inputs; one may be a scalar or empty, not all of them."""
    return any(d and min(d) > 0 for d in dims) and all(0 <= x <= _MAX_DIMENSION for d in dims for x in d)
