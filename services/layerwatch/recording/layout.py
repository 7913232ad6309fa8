"""Our Parquet format: its columns, its metadata, and which messages its columns can carry.

A message is a row of kind `message`, followed by one row of kind `execution` for each execution of it; row groups end
between messages. Columns of the other kind are null. An analyst reads `WHERE kind = 'execution'`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

FORMAT = "layerwatch.recording"
MAJOR = 1

#: Keys of the file's metadata; manifests and phases are JSON lists.
FORMAT_KEY, NAME_KEY = "layerwatch.format", "layerwatch.name"
MANIFESTS_KEY, PHASES_KEY = "layerwatch.manifests", "layerwatch.phases"

MESSAGE, EXECUTION = "message", "execution"

_SAMPLE = pa.struct([(name, pa.float64()) for name in COUNTER_COLUMNS])
_BLOCK = pa.struct([("profile", pa.int64()), ("layers", pa.int64())])
_LIST = pa.list_(pa.float32())

#: Column of an execution row: (the field of `ProfileBatch` that it comes from, its numpy type).
EXECUTION_COLUMNS = {
    "time_s": ("times_s", "<f8"),
    "profile": ("profile_index", "u1"),
    "shape": ("shape_index", "<u2"),
    "end_to_end_ms": ("end_to_end_ms", "<f4"),
    "host_ms": ("host_ms", "<f4"),
    "flags": ("flags", "u1"),
}
#: Columns of a message row that hold a field of `ProfileBatch` of the same name.
MESSAGE_FIELDS = ("window_start_s", "window_end_s", "state", "host", "gpu", "tier", "rate", "dropped")
#: Precision columns with one number an execution, where there is a reference engine.
AGREEMENT = ("cosine", "relative_l2", "top1_agreement")

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("service", pa.string()),
        ("instance", pa.string()),
        ("boot_ms", pa.int64()),
        ("sequence", pa.int64()),
        ("engine", pa.string()),
        # of an execution
        ("time_s", pa.float64()),  # unix time at which it ended
        ("profile", pa.uint8()),
        ("shape", pa.uint16()),  # index into the message's shapes
        ("shapes", pa.string()),  # JSON: input tensor to shape; on a message row, the list of them
        ("end_to_end_ms", pa.float32()),
        ("host_ms", pa.float32()),
        ("flags", pa.uint8()),
        ("layer_block", pa.int32()),  # index into the message's layer blocks
        ("layers_ms", _LIST),  # in call order; null where the layers were not sampled
        ("clipped", _LIST),
        ("peak_ratio", _LIST),
        *((name, pa.float32()) for name in AGREEMENT),
        # of a message
        ("executions", pa.int64()),
        ("window_start_s", pa.float64()),
        ("window_end_s", pa.float64()),
        ("state", pa.string()),
        ("host", pa.string()),
        ("gpu", pa.string()),
        ("tier", pa.string()),
        ("rate", pa.float64()),
        ("dropped", pa.int64()),
        ("layer_blocks", pa.list_(_BLOCK)),
        ("tensors", pa.int64()),  # of the precision block; null where there is none
        ("counters", pa.list_(_SAMPLE)),
        ("record", pa.binary()),  # msgpack of a message whose columns contradict each other; all else is null
    ]
)

#: Dictionaries are for text only: those of floats make one of all NaN, and of both zeros.
DICTIONARY = [field.name for field in SCHEMA if field.type == pa.string()]

_INT64 = 2**63


def executions_of(batch: ProfileBatch) -> int:
    """How many executions the longest column holds."""
    return max(
        len(getattr(batch, name)) // np.dtype(dtype).itemsize for name, dtype in EXECUTION_COLUMNS.values()
    )


def is_consistent(batch: ProfileBatch) -> bool:
    """Whether the columns of a message agree in length, so that rows can carry them."""
    n = executions_of(batch)
    columns = all(
        len(blob) in (0, n * np.dtype(dtype).itemsize)
        for blob, dtype in ((getattr(batch, name), dtype) for name, dtype in EXECUTION_COLUMNS.values())
    )
    integers = all(-_INT64 <= value < _INT64 for value in (batch.boot_ms, batch.sequence, batch.dropped))
    return (
        columns
        and integers
        and len(batch.counters) % (8 * len(COUNTER_COLUMNS)) == 0
        and _layers_fit(batch.layers, n)
        and (batch.precision is None or _precision_fits(batch.precision, n))
    )


def _layers_fit(blocks: list[LayerBlock], n: int) -> bool:
    if not all(
        len(block.rows) % 4 == 0
        and 0 <= block.layers < _INT64
        and -_INT64 <= block.profile < _INT64
        and len(block.times_ms) == len(block.rows) * block.layers
        and _ascend(block.rows, n)
        for block in blocks
    ):
        return False
    rows = np.frombuffer(b"".join(block.rows for block in blocks), "<u4")
    return len(np.unique(rows)) == len(rows)


def _precision_fits(block: PrecisionBlock, n: int) -> bool:
    k = len(block.rows)  # 4 bytes a row, as every float32
    return (
        k % 4 == 0
        and 0 <= block.tensors < _INT64
        and len(block.clipped) == len(block.peak_ratio) == k * block.tensors
        and all(len(getattr(block, name)) in (0, k) for name in AGREEMENT)
        and _ascend(block.rows, n)
    )


def _ascend(rows: bytes, n: int) -> bool:
    """Whether uint32 row numbers ascend and are of the message."""
    values: NDArray[np.int64] = np.frombuffer(rows, "<u4").astype(np.int64)
    return bool(np.all(np.diff(values) > 0)) and (len(values) == 0 or int(values[-1]) < n)
