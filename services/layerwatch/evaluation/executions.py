"""A recording's executions as columns, one table an instance: what delays are counted in and naive detectors read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.batch import executions_of
from layerwatch.detectors.shapes import Point, point_of
from layerwatch.recording.recording import Recording
from layerwatch.schemas.errors import InvalidRecord

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layers:
    """Layer times of the sampled executions `rows` [k] of one build and profile: `times_ms` [k, layers]."""

    engine: str
    profile: int
    rows: Ints
    times_ms: F32


@dataclass(frozen=True, slots=True)
class InstanceTable:
    """All executions of one instance, in order; arrays are [n]."""

    instance: str
    times_s: F64
    end_to_end_ms: F64
    bucket: Ints  # of build, profile and shape (exact batch, half an octave of length)
    switched: NDArray[np.bool_]
    layers: list[Layers]

    def between(self, start_s: float, end_s: float) -> slice:
        """The executions that ended in an interval."""
        first, last = np.searchsorted(self.times_s, [start_s, end_s], side="right")
        return slice(int(first), int(last))


@dataclass(slots=True)
class _Columns:
    """A table while it grows."""

    times_s: list[F64] = field(default_factory=list)
    end_to_end_ms: list[F64] = field(default_factory=list)
    bucket: list[Ints] = field(default_factory=list)
    switched: list[NDArray[np.bool_]] = field(default_factory=list)
    layers: dict[tuple[str, int], list[tuple[Ints, F32]]] = field(default_factory=dict)
    count: int = 0


def tables_of(recording: Recording) -> list[InstanceTable]:
    """A table for each instance; messages that the detectors would refuse are left out."""
    manifests = {manifest.engine: manifest for manifest in recording.manifests}
    growing: dict[str, _Columns] = {}
    numbers: dict[tuple[object, ...], int] = {}
    for batch in recording:
        if batch.engine not in manifests:
            continue
        try:
            executions = executions_of(batch, manifests[batch.engine])
        except InvalidRecord:
            continue
        columns = growing.setdefault(batch.instance, _Columns())
        cells = [_bucket(point_of(shape)) for shape in executions.shapes]
        keys = zip(executions.profile.tolist(), executions.shape.tolist(), strict=True)
        bucket = [numbers.setdefault((batch.engine, p, *cells[s]), len(numbers)) for p, s in keys]
        columns.times_s.append(executions.times_s)
        columns.end_to_end_ms.append(executions.end_to_end_ms)
        columns.bucket.append(np.array(bucket, np.int64))
        columns.switched.append(executions.switched)
        for block in executions.layers:
            blocks = columns.layers.setdefault((batch.engine, block.profile), [])
            blocks.append((block.rows + columns.count, block.times_ms))
        columns.count += len(executions)
    return [_table(instance, columns) for instance, columns in growing.items()]


def _bucket(point: Point) -> tuple[int, int]:
    """The detectors' own buckets are none of a naive detector's knowledge."""
    return point.batch, math.floor(2 * math.log2(point.length))


def _table(instance: str, columns: _Columns) -> InstanceTable:
    layers = [
        Layers(
            engine, profile, np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])
        )
        for (engine, profile), blocks in columns.layers.items()
    ]
    return InstanceTable(
        instance,
        np.concatenate(columns.times_s),
        np.concatenate(columns.end_to_end_ms),
        np.concatenate(columns.bucket),
        np.concatenate(columns.switched),
        layers,
    )


def waited(tables: list[InstanceTable], start_s: float, end_s: float) -> tuple[int, int]:
    """Executions, and switches of profile among them, in an interval; of the instance that had most."""
    most = (0, 0)
    for table in tables:
        inside = table.between(start_s, end_s)
        most = max(most, (inside.stop - inside.start, int(table.switched[inside].sum())))
    return most
