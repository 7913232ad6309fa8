"""The notifier's own numbers, in a registry of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

_PREFIX = "layerwatch_notify_"


class Metrics:
    """Counters since the process started, and where it stands. `channel` is a channel's name, with its peer if it has several."""

    def __init__(self, channels: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.sent = Counter(
            _PREFIX + "sent", "Notices that arrived", ["channel", "event"], registry=self.registry
        )
        self.failed = Counter(
            _PREFIX + "failed", "Tries that did not arrive", ["channel", "reason"], registry=self.registry
        )
        self.up = Gauge(
            _PREFIX + "channel_up", "0 while nothing arrives there", ["channel"], registry=self.registry
        )
        self.waiting = Gauge(
            _PREFIX + "outbox_messages", "Notices that wait to be sent", ["channel"], registry=self.registry
        )
        self.oldest = Gauge(
            _PREFIX + "outbox_oldest_timestamp_seconds",
            "Since when the oldest of them waits",
            ["channel"],
            registry=self.registry,
        )
        self.dead = Gauge(
            _PREFIX + "dead_letters",
            "Notices that nobody took, kept in the database",
            ["channel"],
            registry=self.registry,
        )
        self.last_sent = Gauge(
            _PREFIX + "last_sent_timestamp_seconds",
            "When a notice arrived last",
            ["channel"],
            registry=self.registry,
        )
        self.incidents = Gauge(_PREFIX + "incidents", "Incidents that are open", registry=self.registry)
        self.refused = Counter(
            _PREFIX + "refused", "Records that could not be read", ["reason"], registry=self.registry
        )
        self.lag = Gauge(_PREFIX + "lag_records", "Records that wait in Kafka", registry=self.registry)
        self.lag.set(math.nan)  # unknown is not zero
        for channel in channels:
            self.up.labels(channel).set(1)
            for event in ("firing", "updated", "resolved"):
                self.sent.labels(channel, event)
            for reason in ("later", "misconfigured", "refused"):
                self.failed.labels(channel, reason)

    def show(
        self, waiting: dict[str, tuple[int, float]], dead: dict[str, int], channels: Iterable[str]
    ) -> None:
        """What the outbox says."""
        for channel in channels:
            count, oldest_s = waiting.get(channel, (0, math.nan))
            self.waiting.labels(channel).set(count)
            self.oldest.labels(channel).set(oldest_s)
            self.dead.labels(channel).set(dead.get(channel, 0))
