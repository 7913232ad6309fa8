"""Keeps the layers of a share of the executions only, as an agent that samples would have sent them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from layerwatch.recording.layout import executions_of, is_consistent
from layerwatch.recording.recording import Recording
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch

#: 2^32 over the golden ratio (Knuth, TAOCP 3, 6.4): its multiples spread evenly and follow no period of a workload.
_STEP = 2654435769


def thinned(recording: Recording, share: float) -> Recording:
    """Every execution, and the layers of a `share` in (0, 1] of each instance's; the same ones in each call."""
    seen: Counter[str] = Counter()
    batches = []
    for batch in recording:
        n = executions_of(batch)
        kept = chosen(seen[batch.instance], n, share)
        # What contradicts itself stays as it was recorded: the reader's dead letters are part of a replay.
        batches.append(thinned_batch(batch, kept, share) if is_consistent(batch) else batch)
        seen[batch.instance] += n
    return replace(recording, batches=batches)


def chosen(first: int, count: int, share: float) -> NDArray[np.bool_]:
    """Which of an instance's executions from number `first` on are sampled: [count]; the same ones in each call."""
    index = np.arange(first, first + count, dtype=np.uint64)
    sampled: NDArray[np.bool_] = (index * np.uint64(_STEP)) % np.uint64(2**32) < share * 2**32
    return sampled


def thinned_batch(batch: ProfileBatch, sampled: NDArray[np.bool_], share: float) -> ProfileBatch:
    """A consistent message with the layers of its executions that are `sampled` [n] alone."""
    blocks = (_kept(block, sampled) for block in batch.layers)
    return msgspec.structs.replace(
        batch, layers=[block for block in blocks if block.rows], rate=batch.rate * share
    )


def _kept(block: LayerBlock, sampled: NDArray[np.bool_]) -> LayerBlock:
    rows = np.frombuffer(block.rows, "<u4")
    times_ms = np.frombuffer(block.times_ms, "<f4").reshape(len(rows), block.layers)
    keep = sampled[rows]
    return LayerBlock(block.profile, block.layers, rows[keep].tobytes(), times_ms[keep].tobytes())
