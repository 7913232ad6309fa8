"""Metrics that every stream application has."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class StreamMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter("layerwatch_records", "Records folded in", ["operator"], registry=registry)
        self.refused = Counter(
            "layerwatch_refused",
            "Records refused and dead-lettered",
            ["operator", "reason"],
            registry=registry,
        )
        self.lag = Gauge("layerwatch_lag_records", "Records that wait to be processed", registry=registry)
        self.checkpoint_seconds = Histogram(
            "layerwatch_checkpoint_seconds", "Time to write states to Kafka", registry=registry
        )
