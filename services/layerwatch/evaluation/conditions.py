"""Under what a recording is evaluated: the share of executions whose layers are known, and GPU counters or none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from layerwatch.recording.recording import Recording
from layerwatch.recording.thin import thinned


@dataclass(frozen=True, slots=True)
class Condition:
    """`sample`: share of executions in (0, 1] whose layers are kept; `counters`: whether the GPU's are kept.

    `obeys`: where fewer than all are sampled, the run's own orders for `layerwatch.control` raise it.
    """

    sample: float = 1.0
    counters: bool = True
    obeys: bool = False

    def __str__(self) -> str:
        layers = "all layers" if self.sample == 1 else f"layers of {self.sample:.3g}"
        if self.obeys:
            layers += " and more on orders"
        return layers if self.counters else f"{layers}, no counters"

    def apply(self, recording: Recording) -> Recording:
        """The recording as it would have been made so; where orders are obeyed, the run itself thins it."""
        if self.sample < 1 and not self.obeys:
            recording = thinned(recording, self.sample)
        if not self.counters:
            batches = [msgspec.structs.replace(batch, counters=b"") for batch in recording]
            recording = replace(recording, batches=batches)
        return recording
