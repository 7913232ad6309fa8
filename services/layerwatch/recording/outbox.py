"""Sends records to Kafka and loses none: what is on its way is bounded, and every acknowledgement is awaited."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from kafka.errors import KafkaError

from layerwatch.schemas.errors import Unavailable

#: Most records on their way. Of the largest messages (109 KB) they take 28 MB.
IN_FLIGHT = 256

#: Longest wait for one acknowledgement, in seconds: a broker restarts in 12 s.
_ACK_TIMEOUT_S = 60.0


class Sent(Protocol):
    """A record on its way."""

    def get(self, timeout: float | None = None) -> object: ...


class Producer(Protocol):
    """What is used of kafka.KafkaProducer."""

    def send(self, topic: str, value: bytes, key: bytes) -> Sent: ...
    def flush(self, timeout: float | None = None) -> None: ...


class Outbox:
    """Sends in order; raises Unavailable as soon as a record is known not to have arrived."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: deque[Sent] = deque()
        self._sent = 0

    def send(self, topic: str, key: str, value: bytes) -> None:
        if len(self._waiting) >= IN_FLIGHT:
            self._await_oldest()
        try:
            self._waiting.append(self._producer.send(topic, value=value, key=key.encode()))
        except KafkaError as error:
            raise self._failure(f"{topic} takes no records", error) from error
        self._sent += 1

    def settle(self) -> None:
        """Wait until Kafka has acknowledged all that was sent."""
        try:
            self._producer.flush(_ACK_TIMEOUT_S)
        except KafkaError as error:
            raise self._failure("Kafka does not acknowledge", error) from error
        while self._waiting:
            self._await_oldest()

    def _await_oldest(self) -> None:
        try:
            self._waiting.popleft().get(_ACK_TIMEOUT_S)
        except KafkaError as error:
            raise self._failure("Kafka does not acknowledge", error) from error

    def _failure(self, what: str, error: KafkaError) -> Unavailable:
        return Unavailable(
            f"{what} ({error}); {self._sent} records were sent, and some may not have arrived: "
            f"see that Kafka runs and `layerwatch topics` has created the topics, then start again"
        )
