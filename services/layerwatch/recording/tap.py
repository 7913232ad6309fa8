"""Reads the topics that a recording is made of, beside all who read them for work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.topics import ENGINES, PROFILES

_POLL_MS = 200

#: Empty polls (10 s) after which a topic that should hold more is given up.
_PATIENCE = 50


class Tap:
    """`consumer` is a kafka.KafkaConsumer without a group. Raises Unavailable where a topic is missing."""

    def __init__(self, consumer: Any, *, from_start: bool) -> None:
        self._consumer = consumer
        self._engines = self._partitions(ENGINES)
        self._profiles = self._partitions(PROFILES)
        # Taken here, so that "now" is before the manifests are read.
        offsets = consumer.beginning_offsets if from_start else consumer.end_offsets
        self._offsets = offsets(self._profiles)

    def engines(self) -> Iterator[bytes | None]:
        """Every record on `layerwatch.engines`, to its present end; Unavailable where that is not reached."""
        try:
            self._consumer.assign(self._engines)
            left = self._consumer.end_offsets(self._engines)
            self._consumer.seek_to_beginning(*self._engines)
            for _ in range(_PATIENCE):
                while records := self._poll():
                    yield from records
                if all(self._consumer.position(partition) >= end for partition, end in left.items()):
                    return
        except KafkaError as error:
            raise Unavailable(f"cannot read {ENGINES} ({error}): see that Kafka runs") from error
        raise Unavailable(f"the end of {ENGINES} does not come: see that Kafka runs")

    def start(self) -> None:
        """Turn to `layerwatch.profiles`."""
        self._consumer.assign(self._profiles)
        for partition, offset in self._offsets.items():
            self._consumer.seek(partition, offset)

    def profiles(self) -> list[bytes | None]:
        """What has come since the last call, after a short wait where nothing has; in order within an instance."""
        return self._poll()

    def _poll(self) -> list[bytes | None]:
        polled = self._consumer.poll(timeout_ms=_POLL_MS)
        return [record.value for records in polled.values() for record in records]

    def _partitions(self, topic: str) -> list[Any]:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise Unavailable(f"there is no topic {topic}: create it with `layerwatch topics`")
        return [TopicPartition(topic, number) for number in sorted(numbers)]
