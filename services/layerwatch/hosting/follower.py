"""Follows whole topics in a thread of its own: for small compacted ones that every process reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from layerwatch.hosting.settings import Settings

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_POLL_MS = 100


class Follower(threading.Thread):
    """Hands every record to `take` (topic, value); goes on trying while Kafka is away, and then begins anew.

    `take` runs in this thread, must be idempotent and must not raise. With `from_start`, what was there before comes
    first, and `loaded` is set once it has come; else only what comes once `ready` is set.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        take: Callable[[str, bytes | None], None],
        *,
        from_start: bool = True,
    ) -> None:
        super().__init__(name="follower", daemon=True)
        self._settings = settings
        self._topics = topics
        self._take = take
        self._from_start = from_start
        self.ready = threading.Event()
        self.loaded = threading.Event()
        self._stopping = threading.Event()

    def close(self) -> None:
        self._stopping.set()
        self.join(2.0)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on trying
                _log.info("cannot read %s yet: %s", ", ".join(self._topics), error)
                self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        from kafka import TopicPartition

        from layerwatch.hosting import kafka

        consumer = kafka.consumer(self._settings)
        try:
            partitions = []
            for topic in self._topics:
                numbers = consumer.partitions_for_topic(topic)
                if not numbers:
                    raise LookupError(f"{topic} is missing: run `layerwatch topics`")
                partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            if self._from_start:
                consumer.seek_to_beginning(*partitions)
            else:
                for partition, offset in ends.items():
                    consumer.seek(partition, offset)
            self.ready.set()
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=_POLL_MS).values():
                    for record in records:
                        self._take(record.topic, record.value)
                if not self.loaded.is_set() and all(
                    (consumer.position(partition) or 0) >= end for partition, end in ends.items()
                ):
                    self.loaded.set()
        finally:
            consumer.close()
