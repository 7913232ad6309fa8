"""Moves a recording in time, so that what was recorded once can happen now."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.profiles import COUNTER_COLUMNS, ProfileBatch


def starting_at(recording: Recording, time_s: float) -> Recording:
    """The recording with its first window starting at `time_s`, in unix seconds."""
    by_s = time_s - min(batch.window_start_s for batch in recording)
    batches = [shifted(batch, by_s) for batch in recording]
    return replace(recording, batches=batches, phases=[_moved(phase, by_s) for phase in recording.phases])


def shifted(batch: ProfileBatch, by_s: float) -> ProfileBatch:
    """A message whose window, executions and counters happened so much later."""
    return msgspec.structs.replace(
        batch,
        window_start_s=batch.window_start_s + by_s,
        window_end_s=batch.window_end_s + by_s,
        times_s=_first_column_moved(batch.times_s, 1, by_s),
        counters=_first_column_moved(batch.counters, len(COUNTER_COLUMNS), by_s),
    )


def _first_column_moved(blob: bytes, width: int, by_s: float) -> bytes:
    """float64 [n, width] with its first column moved; a blob of another length is left as it is."""
    if len(blob) % (8 * width):
        return blob
    values = np.frombuffer(blob, "<f8").reshape(-1, width).copy()
    values[:, 0] += by_s
    return values.tobytes()


def _moved(phase: Phase, by_s: float) -> Phase:
    return replace(phase, start_s=phase.start_s + by_s, end_s=phase.end_s + by_s)
