"""Sends records to Kafka from beside a runtime: never blocks, never raises, drops the oldest and counts."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerwatch.hosting.kafka_types import Producer
    from layerwatch.hosting.settings import Settings

_log = logging.getLogger(__name__)

#: Waits between two attempts to reach Kafka, in s: the first, doubled up to the last.
_FIRST_WAIT_S, _LAST_WAIT_S = 0.1, 5.0
#: What a record costs beside its bytes, in the ring or with kafka-python: a generous estimate, in bytes.
_OVERHEAD_BYTES = 1024
_WARN_EVERY_S = 10.0


class _Item(NamedTuple):
    topic: str
    key: bytes
    value: bytes

    @property
    def cost_bytes(self) -> int:
        return len(self.key) + len(self.value) + _OVERHEAD_BYTES


class Publisher:
    """A ring before Kafka, emptied by a thread of its own.

    `ring_bytes` bounds what waits, `flying_bytes` what is with kafka-python and not acknowledged: kafka-python itself
    bounds neither. Every record ends as exactly one of acked, failed (refused by Kafka, or not acknowledged when
    closed) and dropped (from the ring). What flies outlasts an outage of Kafka.
    """

    def __init__(
        self, settings: Settings, *, ring_bytes: int = 64 << 20, flying_bytes: int = 16 << 20
    ) -> None:
        self.offered = self.sent = self.acked = self.failed = self.dropped = 0
        self._settings = settings
        self._ring_bytes = ring_bytes
        self._flying_bytes = flying_bytes
        self._ring: deque[_Item] = deque()
        self._waiting = self._flying = 0  # bytes
        self._closing = False
        self._warned_s = -_WARN_EVERY_S
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def offer(self, topic: str, key: bytes, value: bytes) -> None:
        """Take a record over; costs microseconds whatever state Kafka is in. Any thread may call it."""
        item = _Item(topic, key, value)
        with self._changed:
            self.offered += 1
            if self._closing:
                self.dropped += 1
                return
            self._ring.append(item)
            self._waiting += item.cost_bytes
            self._trim()
            self._changed.notify_all()

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits, for at most about `timeout_s`; what still waits then is dropped and counted."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(lambda: not self._ring and not self._flying, timeout_s)
            self._closing = True
            self.dropped += len(self._ring)
            self._ring.clear()
            self._waiting = 0
            self._changed.notify_all()
        self._thread.join(max(0.5, deadline - time.monotonic()))

    def _trim(self) -> None:
        while self._waiting > self._ring_bytes:
            self._waiting -= self._ring.popleft().cost_bytes
            self.dropped += 1

    def _run(self) -> None:
        producer = self._connect()
        wait_s = _FIRST_WAIT_S
        while producer is not None and (item := self._next()) is not None:
            wait_s = _FIRST_WAIT_S if self._send(producer, item) else self._pause(wait_s)
        if producer is not None:
            self._leave(producer)

    def _leave(self, producer: Producer) -> None:
        from layerwatch.hosting.kafka import abandon

        try:
            abandon(producer)
        except Exception as error:  # noqa: BLE001 - never raises into the runtime's process
            _log.warning("closing the producer: %r", error)

    def _connect(self) -> Producer | None:
        """The producer, as soon as there is a Kafka; None when closed before."""
        wait_s = _FIRST_WAIT_S
        while not self._closing:
            try:
                from layerwatch.hosting.kafka import producer

                return producer(self._settings, linger_ms=20, max_block_ms=200, bootstrap_timeout_ms=2_000)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on trying
                self._warn(f"cannot publish yet: {error}")
                wait_s = self._pause(wait_s)
        return None

    def _pause(self, wait_s: float) -> float:
        """Wait unless closed; the next wait."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, wait_s)
        return min(2 * wait_s, _LAST_WAIT_S)

    def _next(self) -> _Item | None:
        """The oldest record, once there is one and room for it in the air; None when closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._ring and self._flying < self._flying_bytes)
            )
            if self._closing:
                return None
            item = self._ring.popleft()
            self._waiting -= item.cost_bytes
            self._flying += item.cost_bytes
            self.sent += 1
            return item

    def _send(self, producer: Producer, item: _Item) -> bool:
        """Hand a record to kafka-python; False when it does not know the topic (yet) and the record waits again."""
        from kafka.errors import KafkaTimeoutError

        try:
            sent = producer.send(item.topic, item.value, item.key)
        except KafkaTimeoutError as error:
            self._warn(
                f"cannot publish to {item.topic} yet ({error}): is it there? `layerwatch topics --check`"
            )
            self._put_back(item)
            return False
        except Exception as error:  # noqa: BLE001 - one bad record must not end the thread
            self._land(item, error)
            return True
        sent.add_callback(lambda _: self._land(item, None))
        sent.add_errback(lambda error: self._land(item, error))
        return True

    def _put_back(self, item: _Item) -> None:
        with self._changed:
            self.sent -= 1
            self._flying -= item.cost_bytes
            if self._closing:
                self.dropped += 1
                return
            self._ring.appendleft(item)
            self._waiting += item.cost_bytes
            self._trim()

    def _land(self, item: _Item, error: Exception | None) -> None:
        with self._changed:
            self._flying -= item.cost_bytes
            if error is None:
                self.acked += 1
            else:
                self.failed += 1
            self._changed.notify_all()
        if error is not None:
            self._warn(f"a record of {len(item.value)} bytes for {item.topic} failed: {error!r}")

    def _warn(self, text: str) -> None:
        """Log, at most once in a while: an outage must not fill the disk."""
        now_s = time.monotonic()
        if now_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now_s
            _log.warning(
                "%s (offered %d, failed %d, dropped %d)", text, self.offered, self.failed, self.dropped
            )
