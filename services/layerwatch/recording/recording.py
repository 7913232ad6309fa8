"""A recording: what instances executed, and, apart from it, what was injected while it was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch


@dataclass(frozen=True, slots=True)
class Phase:
    """A labelled stretch of a recording; unix seconds. For evaluation only: detectors never see it."""

    name: str
    start_s: float
    end_s: float
    healthy: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """Messages as an agent would have sent them, in order, with the manifests that they refer to."""

    name: str
    manifests: list[Manifest]
    batches: list[ProfileBatch] = field(repr=False)
    phases: list[Phase] = field(default_factory=list)

    @property
    def start_s(self) -> float:
        return self.batches[0].window_start_s

    @property
    def end_s(self) -> float:
        return self.batches[-1].window_end_s

    @property
    def executions(self) -> int:
        return sum(len(batch.end_to_end_ms) // 4 for batch in self.batches)

    def __iter__(self) -> Iterator[ProfileBatch]:
        return iter(self.batches)
