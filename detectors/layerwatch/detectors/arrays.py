"""State of detectors as bytes: nested dictionaries of numbers, text and numpy arrays. Nothing that runs when loaded."""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
State: TypeAlias = dict[str, Any]


def some(flags: Bools) -> bool:
    """Whether any of a few is true; numpy's own takes four times as long."""
    return bool(np.count_nonzero(flags))


def median(values: F64) -> float:
    """Of a short 1-d array: numpy's own spends 40 us on generality."""
    ordered = values.copy()
    ordered.sort()
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def quantile(values: F64, q: float) -> float:
    """Of a short 1-d array, linear between its values; numpy's own takes ten times as long."""
    ordered = np.sort(values)
    below, part = divmod(q * (len(ordered) - 1), 1.0)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return float(low + part * (high - low))


def clipped(values: F64, limit: F64 | float) -> F64:
    """Within -limit..limit; np.clip is five times as slow on small arrays."""
    out: F64 = np.minimum(np.maximum(values, -limit), limit)
    return out


def row_medians(values: F64) -> F64:
    """[n] of [n, m]; a whole sort is four times as fast as a partition for the two middle ones."""
    ordered = np.sort(values, axis=1)
    middle: F64 = (ordered[:, (ordered.shape[1] - 1) // 2] + ordered[:, ordered.shape[1] // 2]) / 2
    return middle


def masked_row_medians(values: F64, of: Bools) -> F64:
    """[n] of [n, m], of the values that `of` [n, m] names; 0 where it names none."""
    ordered = np.sort(np.where(of, values, np.inf), axis=1)
    count, rows = np.count_nonzero(of, axis=1), np.arange(len(values))
    middle = (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2]) / 2
    return np.where(count > 0, middle, 0.0)


def column_medians(values: F64) -> F64:
    """[m] of a short [n, m]."""
    ordered = np.sort(values, axis=0)
    middle: F64 = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle


_ARRAY = 1  # msgpack extension: one numpy array


def pack(state: State) -> bytes:
    """Compressed msgpack; arrays keep dtype and shape."""
    return zlib.compress(msgspec.msgpack.encode(state, enc_hook=_to_ext), 1)


def unpack(data: bytes) -> State:
    """What `pack` was given; arrays come back writable."""
    state: State = msgspec.msgpack.decode(zlib.decompress(data), ext_hook=_from_ext, strict=False)
    return state


def _to_ext(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        head = msgspec.msgpack.encode((value.dtype.str, value.shape))
        return msgspec.msgpack.Ext(_ARRAY, bytes([len(head)]) + head + np.ascontiguousarray(value).tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} is no part of a detector's state")


def _from_ext(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code} in a detector's state")
    size = data[0]
    dtype, shape = msgspec.msgpack.decode(data[1 : 1 + size])
    return np.frombuffer(data[1 + size :], dtype).reshape(shape).copy()
