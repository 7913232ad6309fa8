"""The history's own numbers, in a registry of their own."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class Metrics:
    """Counters since the process started, and where it stands."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.rows = Counter("layerwatch_history_rows", "Revisions stored", ["kind"], registry=self.registry)
        self.repeated = Counter(
            "layerwatch_history_repeated",
            "Revisions that came again and were there already",
            ["kind"],
            registry=self.registry,
        )
        self.refused = Counter(
            "layerwatch_history_refused", "Records that could not be read", ["reason"], registry=self.registry
        )
        self.lag = Gauge(
            "layerwatch_history_lag_records", "Records that wait in Kafka", registry=self.registry
        )
        self.position = Gauge(
            "layerwatch_history_position_timestamp_seconds",
            "When the newest stored record was written to Kafka",
            registry=self.registry,
        )
        # Unknown is not zero.
        self.lag.set(math.nan)
        self.position.set(math.nan)
        for kind in ("alert", "decision"):
            self.rows.labels(kind)
            self.repeated.labels(kind)
