"""Rows of our Parquet format back to messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from layerwatch.recording.layout import (
    AGREEMENT,
    EXECUTION_COLUMNS,
    MESSAGE,
    MESSAGE_FIELDS,
)
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

_RECORDS = Reader(ProfileBatch)
_SHAPES = msgspec.json.Decoder(list[dict[str, list[int]]])


def from_rows(table: pa.Table) -> Iterator[ProfileBatch]:
    """The messages of whole row groups; raises ValueError where a message's executions are not all there."""
    rows = table.combine_chunks().to_batches()
    if not rows:
        return
    starts = np.flatnonzero(pc.equal(rows[0].column("kind"), MESSAGE).to_numpy(zero_copy_only=False)).tolist()
    if not starts or starts[0] != 0:
        raise ValueError("executions without their message")
    for start, end in zip(starts, [*starts[1:], len(rows[0])], strict=True):
        yield _batch(rows[0].slice(start, end - start))


def _batch(rows: pa.RecordBatch) -> ProfileBatch:
    record = rows.column("record")[0].as_py()
    if record is not None:
        return _RECORDS.decode(record)
    n = len(rows) - 1
    if rows.column("executions")[0].as_py() != n:
        raise ValueError(f"a message of {rows.column('executions')[0].as_py()} executions has {n}")
    executions = rows.slice(1)
    columns: dict[str, Any] = {
        field: _blob(executions.column(column), dtype) for column, (field, dtype) in EXECUTION_COLUMNS.items()
    }
    names = ("service", "instance", "boot_ms", "sequence", "engine", *MESSAGE_FIELDS)
    return ProfileBatch(
        **{name: rows.column(name)[0].as_py() for name in names},
        **columns,
        shapes=_SHAPES.decode(rows.column("shapes")[0].as_py()),
        layers=_layers(rows, executions),
        counters=_counters(rows.column("counters")[0].values),
        precision=_precision(rows.column("tensors")[0].as_py(), executions),
    )


def _counters(samples: pa.StructArray) -> bytes:
    columns = [samples.field(name).to_numpy(zero_copy_only=False) for name in COUNTER_COLUMNS]
    return np.column_stack(columns).astype("<f8").tobytes()


def _layers(rows: pa.RecordBatch, executions: pa.RecordBatch) -> list[LayerBlock]:
    owner = executions.column("layer_block").fill_null(-1).to_numpy(zero_copy_only=False)
    layers = executions.column("layers_ms")
    blocks = []
    for number, block in enumerate(rows.column("layer_blocks")[0].as_py()):
        index = np.flatnonzero(owner == number)
        times_ms = _flat(layers.take(pa.array(index)))
        blocks.append(LayerBlock(block["profile"], block["layers"], _rows(index), times_ms))
    return blocks


def _precision(tensors: int | None, executions: pa.RecordBatch) -> PrecisionBlock | None:
    if tensors is None:
        return None
    present = executions.column("clipped").is_valid()
    index = np.flatnonzero(present.to_numpy(zero_copy_only=False))
    part = executions.filter(present)
    agreement = (_blob(part.column(name), "<f4") for name in AGREEMENT)
    lists = (_flat(part.column(name)) for name in ("clipped", "peak_ratio"))
    return PrecisionBlock(_rows(index), tensors, *lists, *agreement)


def _rows(index: Any) -> bytes:
    return bytes(index.astype("<u4").tobytes())


def _flat(lists: pa.ListArray) -> bytes:
    return bytes(lists.flatten().to_numpy(zero_copy_only=False).astype("<f4").tobytes())


def _blob(column: pa.Array, dtype: str) -> bytes:
    """The column's bytes; none where it is null, as a message that lacks it has none."""
    if column.null_count:
        return b""
    return bytes(column.to_numpy(zero_copy_only=False).astype(dtype).tobytes())
