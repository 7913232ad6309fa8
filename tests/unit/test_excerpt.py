"""Messages cut down to an interval."""

from __future__ import annotations

import numpy as np
import pytest
from detection import NAMES, recording

from layerwatch.detectors.batch import executions_of
from layerwatch.recording.excerpt import excerpt


@pytest.mark.parametrize("name", NAMES)
def test_two_excerpts_hold_what_the_whole_message_holds(name: str) -> None:
    made = recording(name)
    manifests = {manifest.engine: manifest for manifest in made.manifests}
    for batch in made.batches[5:60:6]:
        times_s = np.frombuffer(batch.times_s)
        if len(times_s) < 2:
            continue  # a heartbeat
        middle_s = float(times_s[len(times_s) // 2 : len(times_s) // 2 + 2].mean())
        parts = [excerpt(batch, batch.window_start_s, middle_s), excerpt(batch, middle_s, batch.window_end_s)]
        whole = executions_of(batch, manifests[batch.engine])
        cut = [executions_of(part, manifests[batch.engine]) for part in parts if part is not None]
        assert len(cut) == 2
        for column in ("times_s", "shape", "profile", "switched", "end_to_end_ms", "counters"):
            joined = np.concatenate([getattr(part, column) for part in cut])
            assert np.array_equal(joined, getattr(whole, column), equal_nan=True)
        offset = len(cut[0])
        for block in whole.layers:
            found = [
                (b.rows + number * offset, b.times_ms)
                for number, part in enumerate(cut)
                for b in part.layers
                if b.profile == block.profile
            ]
            assert np.array_equal(np.concatenate([r for r, _ in found]), block.rows)
            assert np.array_equal(np.concatenate([t for _, t in found]), block.times_ms)
        if whole.precision is not None:
            clipped = [part.precision.clipped for part in cut if part.precision is not None]
            assert np.array_equal(np.concatenate(clipped), whole.precision.clipped)


def test_an_interval_elsewhere_holds_nothing() -> None:
    batch = recording("resnet50-h200").batches[3]
    assert excerpt(batch, batch.window_end_s, batch.window_end_s + 5) is None
    assert excerpt(batch, batch.window_start_s - 5, batch.window_start_s) is None
