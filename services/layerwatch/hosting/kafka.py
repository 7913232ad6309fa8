"""Kafka clients, built in this one place: kafka-python with the settings that survive a broker's death."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError

from layerwatch.hosting.kafka_types import Admin, Consumer, Producer
from layerwatch.hosting.security import security
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable

#: How long a client waits for Kafka when it is built, in ms (each function takes another one).
BOOTSTRAP_TIMEOUT_MS = 5_000
#: Of kafka-python's 30 s an outage would last up to 30 s longer than the broker's.
_RECONNECT_BACKOFF_MAX_MS = 1_000

_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 5,
    "batch_size": 256 << 10,
    "request_timeout_ms": 5_000,
    # Nothing may expire: an idempotent producer stalls for good once a batch of it has (kafka-python 3.0.12).
    # Who sends without end bounds what is on the way instead, as agent.publisher does.
    "delivery_timeout_ms": 3_600_000,
    "max_block_ms": 5_000,
    "allow_auto_create_topics": False,
}
_CONSUMER: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "session_timeout_ms": 10_000,
    "heartbeat_interval_ms": 2_000,
    "allow_auto_create_topics": False,
}


def producer(settings: Settings, **options: Any) -> Producer:
    """A producer that loses nothing while Kafka is away for less than an hour.

    `options` override kafka-python's. Raises Unavailable where no Kafka answers.
    """
    made: Producer = _build(KafkaProducer, settings, _PRODUCER | options)
    return made


def consumer(settings: Settings, *topics: str, group: str | None = None, **options: Any) -> Consumer:
    """A consumer from the beginning that commits only when told to; without a group it commits nothing.

    `options` override kafka-python's. Raises Unavailable where no Kafka answers.
    """

    def subscribed(**config: Any) -> Any:
        return KafkaConsumer(*topics, **config)

    made: Consumer = _build(subscribed, settings, {**_CONSUMER, "group_id": group, **options})
    return made


def admin(settings: Settings, **options: Any) -> Admin:
    """An admin client; `options` override kafka-python's. Raises Unavailable where no Kafka answers."""
    made: Admin = _build(KafkaAdminClient, settings, options)
    return made


def abandon(producer: Any) -> None:
    """Close a producer at once; what is not acknowledged fails.

    Its own `close` gives up on unacknowledged records by raising, and leaves its thread to go on trying.
    """
    producer._sender.force_close()
    producer._sender.join(1)
    producer.close(timeout=1)


def _build(client: Callable[..., Any], settings: Settings, options: dict[str, Any]) -> Any:
    servers = settings.kafka.servers.split(",")
    config: dict[str, Any] = {
        "bootstrap_servers": servers,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "reconnect_backoff_max_ms": _RECONNECT_BACKOFF_MAX_MS,
        **security(settings.kafka).options(),
    } | options
    # A client whose bootstrap fails leaves a thread and six descriptors behind, each time.
    if _knock(servers, config["bootstrap_timeout_ms"] / 1000):
        try:
            return client(**config)
        except KafkaTimeoutError as error:
            raise Unavailable(
                f"{settings.kafka.servers} takes connections, but no Kafka that lets us in answers there"
                f" ({settings.kafka.security}): check LAYERWATCH_KAFKA__BOOTSTRAP, LAYERWATCH_KAFKA__SECURITY,"
                " and the user, password and certificates that it needs"
            ) from error
    raise _absent(settings)


def _absent(settings: Settings) -> Unavailable:
    return Unavailable(
        f"no Kafka at {settings.kafka.servers}: start `layerwatch broker`, or set LAYERWATCH_KAFKA__BOOTSTRAP"
    )


def _knock(servers: list[str], timeout_s: float) -> bool:
    """Whether one of the servers accepts a connection within the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        for server in servers:
            host, _, port = server.strip().rpartition(":")
            try:
                left_s = max(0.1, deadline - time.monotonic())
                socket.create_connection((host.strip("[]"), int(port)), timeout=left_s).close()
                return True
            except OSError:
                continue
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
