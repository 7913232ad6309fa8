"""A message to rows of our Parquet format."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from layerwatch.recording.layout import (
    AGREEMENT,
    EXECUTION,
    EXECUTION_COLUMNS,
    MESSAGE,
    MESSAGE_FIELDS,
    SCHEMA,
    executions_of,
    is_consistent,
)
from layerwatch.schemas.codec import encode
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

Floats = NDArray[np.float32]


def to_rows(batch: ProfileBatch) -> pa.RecordBatch:
    """One message row, then its executions. Exact: `from_rows` gives an equal message."""
    if not is_consistent(batch):
        return _rows({"kind": pa.array([MESSAGE]), "record": pa.array([encode(batch)])}, 1)
    n = executions_of(batch)
    columns = _keys(batch, n) | _message(batch, n) | _executions(batch, n) | _layers(batch.layers, n)
    if batch.precision is not None:
        columns |= _precision(batch.precision, n)
    return _rows(columns, n + 1)


def _rows(columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _keys(batch: ProfileBatch, n: int) -> dict[str, pa.Array]:
    names = ("service", "instance", "boot_ms", "sequence", "engine")
    keys = {name: pa.repeat(_scalar(name, getattr(batch, name)), n + 1) for name in names}
    return keys | {"kind": pa.array([MESSAGE] + [EXECUTION] * n)}


def _message(batch: ProfileBatch, n: int) -> dict[str, pa.Array]:
    samples = np.frombuffer(batch.counters, "<f8").reshape(-1, len(COUNTER_COLUMNS)).T
    flat = pa.StructArray.from_arrays([pa.array(column) for column in samples], names=list(COUNTER_COLUMNS))
    fields: dict[str, Any] = {name: getattr(batch, name) for name in MESSAGE_FIELDS}
    fields["executions"] = n
    fields["layer_blocks"] = [{"profile": b.profile, "layers": b.layers} for b in batch.layers]
    fields["tensors"] = None if batch.precision is None else batch.precision.tensors
    columns = {name: _head(_scalar(name, value), n) for name, value in fields.items()}
    offsets = pa.array([0] + [len(flat)] * (n + 1), pa.int32())
    counters = pa.ListArray.from_arrays(offsets, flat, mask=pa.array([False] + [True] * n))
    return columns | {"counters": counters}


def _executions(batch: ProfileBatch, n: int) -> dict[str, pa.Array]:
    columns = {
        column: _tail(np.frombuffer(blob, dtype))
        for column, (field, dtype) in EXECUTION_COLUMNS.items()
        if (blob := getattr(batch, field))
    }
    shapes = [msgspec.json.encode(shape).decode() for shape in batch.shapes]
    index = np.frombuffer(batch.shape_index, "<u2").tolist() or [len(shapes)] * n
    texts = [shapes[i] if i < len(shapes) else None for i in index]
    return columns | {"shapes": pa.array([msgspec.json.encode(batch.shapes).decode(), *texts], pa.string())}


def _layers(blocks: list[LayerBlock], n: int) -> dict[str, pa.Array]:
    owner: list[int | None] = [None] * n
    lists: list[Floats | None] = [None] * n
    for number, block in enumerate(blocks):
        for row, times in _by_row(block.rows, block.times_ms, block.layers):
            owner[row], lists[row] = number, times
    return {"layer_block": pa.array([None, *owner], pa.int32()), "layers_ms": _lists(lists)}


def _precision(block: PrecisionBlock, n: int) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for name in ("clipped", "peak_ratio"):
        lists: list[Floats | None] = [None] * n
        for row, values in _by_row(block.rows, getattr(block, name), block.tensors):
            lists[row] = values
        columns[name] = _lists(lists)
    rows = np.frombuffer(block.rows, "<u4")
    for name in AGREEMENT:
        if blob := getattr(block, name):
            values = np.zeros(n, "<f4")
            values[rows] = np.frombuffer(blob, "<f4")
            absent = np.ones(n, bool)
            absent[rows] = False
            columns[name] = _tail(values, absent)
    return columns


def _by_row(rows: bytes, values: bytes, width: int) -> zip[tuple[int, Floats]]:
    index = np.frombuffer(rows, "<u4")
    return zip(index.tolist(), np.frombuffer(values, "<f4").reshape(len(index), width), strict=True)


def _scalar(name: str, value: Any) -> pa.Scalar:
    return pa.scalar(value, SCHEMA.field(name).type)


def _head(scalar: pa.Scalar, n: int) -> pa.Array:
    """The value on the message's row, null on its executions."""
    return pa.concat_arrays([pa.repeat(scalar, 1), pa.nulls(n, scalar.type)])


def _tail(values: NDArray[Any], absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """Null on the message's row, the values on its executions."""
    mask = np.zeros(len(values), bool) if absent is None else absent
    return pa.array(np.insert(values, 0, 0), mask=np.insert(mask, 0, True))


def _lists(lists: list[Floats | None]) -> pa.Array:
    """Null on the message's row, then a list of float32 or null for each execution."""
    widths = [0 if values is None else len(values) for values in lists]
    offsets = np.concatenate([[0, 0], np.cumsum(widths, dtype=np.int64)]).astype(np.int32)
    present = [values for values in lists if values is not None]
    flat = np.concatenate(present) if present else np.empty(0, np.float32)
    mask = pa.array([True] + [values is None for values in lists])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float32()), mask=mask)
