"""layerwatch.alerts and layerwatch.alerts.current: incidents as a person should hear of them (JSON)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from layerwatch.schemas.codec import Reader

CE_TYPE = "layerwatch.alert.v1"

STATUSES = ("firing", "resolved")
SEVERITIES = ("info", "warning", "critical")

KINDS = (
    "layer_latency",
    "request_latency",
    "host_gap",
    "engine_regression",
    "saturation",
    "divergence",
    "precursor",
    "load",
    "silence",
)

CAUSES = (
    "gpu_contention",
    "memory_bandwidth",
    "pcie_contention",
    "host_starvation",
    "interpreter_lock",
    "allocation",
    "profile_switch",
    "clock_throttle",
    "engine_change",
    "input_drift",
    "quantization_range",
    "load",
    "unknown",
)


class Impact(msgspec.Struct, frozen=True):
    """What requests felt; ratios are observed over expected for the same shapes."""

    executions: int
    affected: int
    p50_ratio: float
    p99_ratio: float
    baseline_p99_ms: float
    observed_p99_ms: float


class BucketImpact(msgspec.Struct, frozen=True):
    profile: int
    shapes: dict[str, list[int]]
    executions: int
    ratio: float


class LayerExcess(msgspec.Struct, frozen=True):
    name: str
    group: str
    index: int
    baseline_ms: float
    observed_ms: float
    ratio: float
    excess_ms: float


class Cause(msgspec.Struct, frozen=True):
    cause: str
    confidence: float
    evidence: str


class DetectorScore(msgspec.Struct, frozen=True):
    name: str
    score: float
    threshold: float
    p_value: float | None = None


class Sampling(msgspec.Struct, frozen=True):
    tier: str
    rate: float


class Alert(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="layerwatch.alert/1"):
    """One revision of an alert. Times are RFC 3339 UTC with milliseconds."""

    id: str
    revision: int
    status: str
    severity: str
    kind: str
    service: str
    scope: str
    instances: list[str]
    engine: str
    host: str
    gpu: str
    started_at: str
    opened_at: str
    updated_at: str
    closed_at: str | None = None
    summary: str
    impact: Impact
    buckets: list[BucketImpact]
    layers: list[LayerExcess]
    causes: list[Cause]
    detectors: list[DetectorScore]
    sampling: Sampling | None = None
    decision: str | None = None
    runbook_url: str | None = None
    history_url: str | None = None
    fleet: int | None = None  # instances of the service that are known


def trouble_of(kind: str, causes: Sequence[Cause]) -> str:
    """What a person takes for the same trouble of a service: its leading cause, or its kind where that is unknown."""
    cause = causes[0].cause if causes else "unknown"
    return kind if cause == "unknown" else cause


ALERT_READER: Reader[Alert] = Reader(Alert, json=True)
