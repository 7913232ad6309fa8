"""The Kafka clients of this service, built in this one place. A recording survives a broker that is away for a while."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable

_SHARED: dict[str, Any] = {"bootstrap_timeout_ms": 5_000, "reconnect_backoff_max_ms": 1_000}


def producer(settings: Settings) -> Any:
    """An idempotent producer whose batches never expire: one that did would stall it (kafka-python 3.0.12)."""
    return _built(
        KafkaProducer,
        settings,
        {
            "acks": "all",
            "linger_ms": 20,
            "batch_size": 256 << 10,
            "delivery_timeout_ms": 3_600_000,
            "max_block_ms": 5_000,
            "allow_auto_create_topics": False,
        },
    )


def abandon(producer: Any) -> None:
    """Close a producer at once; what is not acknowledged fails.

    Its own `close` gives up on unacknowledged records by raising, and leaves its thread to go on trying.
    """
    producer._sender.force_close()
    producer._sender.join(1)
    producer.close(timeout=1)


def consumer(settings: Settings) -> Any:
    """A consumer without a group: it is told what to read, and leaves no trace."""
    return _built(
        KafkaConsumer,
        settings,
        {"auto_offset_reset": "earliest", "enable_auto_commit": False, "allow_auto_create_topics": False},
    )


def _built(client: Any, settings: Settings, options: dict[str, Any]) -> Any:
    servers = settings.kafka.servers
    try:
        return client(bootstrap_servers=servers.split(","), **_SHARED, **options)
    except KafkaError as error:
        raise Unavailable(
            f"no Kafka at {servers}: start `layerwatch broker`, or set LAYERWATCH_KAFKA__BOOTSTRAP"
        ) from error
