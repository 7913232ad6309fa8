"""layerwatch.signals: what one instance shows in one message's window, for its service."""

from __future__ import annotations

import msgspec

from layerwatch.schemas.alerts import BucketImpact, Cause, DetectorScore, Impact, LayerExcess


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """Trouble on one instance from its onset to its end: evidence, not yet an alert.

    Sent again in every signal while it lasts and once when it has closed, so that no single signal is needed.
    """

    id: str
    kind: str
    severity: str
    onset_s: float
    opened_s: float
    updated_s: float
    closed_s: float | None = None
    summary: str = ""
    impact: Impact
    buckets: list[BucketImpact] = []
    layers: list[LayerExcess] = []
    causes: list[Cause] = []
    detectors: list[DetectorScore] = []


class Signal(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.signals/1"):
    service: str
    instance: str
    boot_ms: int
    sequence: int
    engine: str
    time_s: float  # the instance's clock
    host: str = ""
    gpu: str = ""
    state: str = "serving"
    tier: str = "canary"
    rate: float = 1.0
    executions: int = 0
    end_to_end_p50_ms: float = 0.0
    warming_up: bool = False  # no opinion yet: too few executions seen
    episodes: list[Episode] = []
    slow_path: str = "learning"  # learning, watching or degraded: whether what creeps would be seen
    # Since the boot, so that a signal may be left out: executions (lost ones too), their time, and its squares.
    executed: int | None = None
    busy_s: float = 0.0
    busy_s2: float = 0.0
    suspected: list[str] = []  # channels that are reason to sample more, far below an alert
    settled: bool = True  # baselines of layers stand: more samples would teach little
