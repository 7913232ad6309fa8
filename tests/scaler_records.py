"""Load and decisions for tests of the scaler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision, Target
from layerwatch.schemas.load import Load
from layerwatch.schemas.times import rfc3339
from layerwatch.schemas.topics import DECISIONS_CURRENT, LOAD


def load(at_s: float, service: str = "s", **changes: Any) -> Load:
    """Of three instances that should be five."""
    fields: dict[str, Any] = {
        "service": service,
        "at": rfc3339(at_s),
        "instances": 3,
        "rate": 100.0,
        "utilisation": 0.6,
        "service_ms": 18.0,
        "service_cv2": 0.5,
        "ahead_s": 120.0,
        "expected_rate": 110.0,
        "upper_rate": 140.0,
        "forecaster": "ewma",
        "replicas": 5,
        "basis": "forecast",
    }
    return Load(**(fields | changes))


def decision(at_s: float, service: str = "s", **changes: Any) -> Decision:
    """More replicas, for 300 s."""
    fields: dict[str, Any] = {
        "id": "d-1",
        "epoch": 1,
        "revision": 1,
        "status": "active",
        "target": Target(service, "*", "capacity"),
        "action": "scale_out",
        "mode": "enforce",
        "reason": "gpu_contention",
        "alerts": ["a-1"],
        "confidence": 0.9,
        "expected": "p99 back",
        "policy": "default@1",
        "issued_at": rfc3339(at_s),
        "expires_at": rfc3339(at_s + 300),
    }
    return Decision(**(fields | changes))


def publish(settings: Settings, *records: Load | Decision) -> None:
    with publisher(settings) as send:
        send(*records)


@contextmanager
def publisher(settings: Settings) -> Iterator[Callable[..., None]]:
    """A function that sends records and waits until Kafka has them."""
    producer: Any = kafka.producer(settings)

    def send(*records: Load | Decision) -> None:
        for record in records:
            topic = LOAD if isinstance(record, Load) else DECISIONS_CURRENT
            key = record.service if isinstance(record, Load) else record.target.key
            producer.send(topic, key=key.encode(), value=encode_json(record))
        producer.flush(30)

    try:
        yield send
    finally:
        kafka.abandon(producer)
