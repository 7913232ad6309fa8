"""Under what a recording is evaluated: the share of executions whose layers are known, and GPU counters or none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from layerwatch.recording.recording import Recording
from layerwatch.recording.thin import thinned


@dataclass(frozen=True, slots=True)
class Condition:
    """`sample`: share of executions in (0, 1] whose layers are kept; `counters`: whether the GPU's are kept."""

    sample: float = 1.0
    counters: bool = True

    def __str__(self) -> str:
        layers = "all layers" if self.sample == 1 else f"layers of {self.sample:.3g}"
        return layers if self.counters else f"{layers}, no counters"

    def apply(self, recording: Recording) -> Recording:
        """The recording as it would have been made so."""
        if self.sample < 1:
            recording = thinned(recording, self.sample)
        if not self.counters:
            batches = [msgspec.structs.replace(batch, counters=b"") for batch in recording]
            recording = replace(recording, batches=batches)
        return recording
