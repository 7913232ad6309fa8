"""What one channel of a detector says: beyond its threshold, since when, how sure."""

from __future__ import annotations

from dataclasses import dataclass

from layerwatch.schemas.alerts import DetectorScore


@dataclass(frozen=True, slots=True)
class Finding:
    channel: str
    score: float
    threshold: float
    onset_s: float
    p_value: float | None = None

    def as_score(self) -> DetectorScore:
        return DetectorScore(self.channel, round(self.score, 4), round(self.threshold, 4), self.p_value)
