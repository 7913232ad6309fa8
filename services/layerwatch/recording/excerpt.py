"""Cuts a message down to what happened within an interval."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from layerwatch.recording.layout import AGREEMENT, EXECUTION_COLUMNS
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

Bools = NDArray[np.bool_]


def excerpt(batch: ProfileBatch, start_s: float, end_s: float) -> ProfileBatch | None:
    """The executions and counters of an interval, both ends included, of a consistent message.

    None where the message's window lies outside.
    """
    window = max(batch.window_start_s, start_s), min(batch.window_end_s, end_s)
    if window[0] >= window[1]:
        return None
    times_s = np.frombuffer(batch.times_s, "<f8")
    keep = (times_s >= start_s) & (times_s <= end_s)
    counters = np.frombuffer(batch.counters, "<f8").reshape(-1, len(COUNTER_COLUMNS))
    inside = (counters[:, 0] >= start_s) & (counters[:, 0] <= end_s)
    columns = {
        name: np.frombuffer(blob, dtype)[keep].tobytes() if (blob := getattr(batch, name)) else b""
        for name, dtype in EXECUTION_COLUMNS.values()
    }
    blocks = (_layers(block, keep) for block in batch.layers)
    return msgspec.structs.replace(
        batch,
        window_start_s=window[0],
        window_end_s=window[1],
        counters=counters[inside].tobytes(),
        layers=[block for block in blocks if block.rows],
        precision=None if batch.precision is None else _precision(batch.precision, keep),
        **columns,
    )


def _kept(rows: bytes, keep: Bools) -> tuple[Bools, bytes]:
    """Which of a block's rows are kept, and their new numbers."""
    old = np.frombuffer(rows, "<u4")
    chosen: Bools = keep[old]
    return chosen, (np.cumsum(keep)[old[chosen]] - 1).astype("<u4").tobytes()


def _layers(block: LayerBlock, keep: Bools) -> LayerBlock:
    chosen, rows = _kept(block.rows, keep)
    times_ms = np.frombuffer(block.times_ms, "<f4").reshape(len(chosen), block.layers)
    return LayerBlock(block.profile, block.layers, rows, times_ms[chosen].tobytes())


def _precision(block: PrecisionBlock, keep: Bools) -> PrecisionBlock:
    chosen, rows = _kept(block.rows, keep)

    def of_tensors(blob: bytes) -> bytes:
        return np.frombuffer(blob, "<f4").reshape(len(chosen), block.tensors)[chosen].tobytes()

    agreement = {
        name: np.frombuffer(blob, "<f4")[chosen].tobytes() if (blob := getattr(block, name)) else b""
        for name in AGREEMENT
    }
    return PrecisionBlock(
        rows, block.tensors, of_tensors(block.clipped), of_tensors(block.peak_ratio), **agreement
    )
