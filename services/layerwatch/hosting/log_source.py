"""Topics of Kafka from stored positions on, for services that keep their position in a database of their own.

What such a service does with a record and how far it has read change in one transaction there, so nothing is lost and
nothing counts twice, whatever is killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable

_log = logging.getLogger(__name__)

_POLL_MS = 500
_ANSWER_MS = 5_000
#: Between two questions how far the topics reach and whether they are still the same ones.
_CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies in a topic."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Position:
    """How far one partition was read. `topic_id` tells a topic from another one that had its name before."""

    topic_id: str
    next_offset: int
    timestamp_ms: int


#: By (topic, partition).
Positions = Mapping[tuple[str, int], Position]


@dataclass(frozen=True, slots=True)
class _Topic:
    id: str
    partitions: int


class KafkaSource:
    """All partitions of some topics, assigned by hand: the positions are the database's business, not Kafka's.

    `client` is the name by which the broker's logs know us.
    Raises Unavailable when Kafka does not answer, a topic is missing, or a topic is no longer the one it was.
    """

    def __init__(self, client: str, settings: Settings, topics: Sequence[str], positions: Positions) -> None:
        options: dict[str, Any] = {"client_id": client, "bootstrap_timeout_ms": _ANSWER_MS}
        self._servers = settings.kafka.servers
        with _answering(self._servers), ExitStack() as opened:
            admin = kafka.admin(settings, **options, request_timeout_ms=_ANSWER_MS)
            self._admin: Any = opened.enter_context(closing(admin))
            # Untyped: the time-outs of its questions are no part of what is typed.
            self._consumer: Any = opened.enter_context(closing(kafka.consumer(settings, **options)))
            self._topics = _describe(self._admin, topics)
            self._assign(positions)
            self._opened = opened.pop_all()

    def _assign(self, positions: Positions) -> None:
        partitions = [
            TopicPartition(name, number)
            for name, topic in self._topics.items()
            for number in range(topic.partitions)
        ]
        self._consumer.assign(partitions)
        self._earliest = self._consumer.beginning_offsets(partitions, timeout_ms=_ANSWER_MS)
        self._ends = self._consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS)
        self._ends_at_start = self._ends
        self._checked_s = time.monotonic()
        for partition in partitions:
            self._consumer.seek(partition, self._start(partition, positions))

    def _start(self, partition: Any, positions: Positions) -> int:
        earliest: int = self._earliest[partition]
        position = positions.get((partition.topic, partition.partition))
        if position is None:
            return earliest
        if position.topic_id != self._topics[partition.topic].id:
            reason = "the topic was made anew"
        elif position.next_offset > self._ends[partition]:
            reason = "the topic ends before what was read of it"
        elif position.next_offset < earliest:
            reason = f"{earliest - position.next_offset} records had expired before they were read"
        else:
            return position.next_offset
        _log.warning(
            "%s-%d: %s; going on from offset %d", partition.topic, partition.partition, reason, earliest
        )
        return earliest

    def poll(self) -> Sequence[RawRecord]:
        """What has come, after half a second at the latest."""
        with _answering(self._servers):
            polled = self._consumer.poll(timeout_ms=_POLL_MS)
        return [
            RawRecord(
                partition.topic,
                self._topics[partition.topic].id,
                partition.partition,
                record.offset,
                record.timestamp,
                record.value,
            )
            for partition, records in polled.items()
            for record in records
        ]

    def waiting(self) -> int:
        """Records that are not yet polled, as far as Kafka said in the last seconds."""
        if time.monotonic() - self._checked_s >= _CHECK_S:
            self._check()
        return self._distance(self._ends)

    def caught_up(self) -> bool:
        """Whether all that was there at the start has been polled."""
        return self._distance(self._ends_at_start) == 0

    def _distance(self, ends: dict[Any, int]) -> int:
        return sum(max(0, end - self._position(partition)) for partition, end in ends.items())

    def _position(self, partition: Any) -> int:
        return self._consumer.position(partition, timeout_ms=0) or 0

    def _check(self) -> None:
        with _answering(self._servers):
            if _describe(self._admin, list(self._topics)) != self._topics:
                raise Unavailable("the topics were made anew while they were read: opening them again")
            self._ends = self._consumer.end_offsets(list(self._ends), timeout_ms=_ANSWER_MS)
        self._checked_s = time.monotonic()

    def close(self) -> None:
        self._opened.close()


def _describe(admin: Any, names: Sequence[str]) -> dict[str, _Topic]:
    """Identity and size of each topic; raises Unavailable where one is missing."""
    answers = admin.describe_topics(list(names))
    for answer in answers:
        if answer["error_code"]:
            raise Unavailable(
                f"topic {answer['name']} is missing in Kafka: create it with `layerwatch topics`"
            )
    return {answer["name"]: _Topic(str(answer["topic_id"]), len(answer["partitions"])) for answer in answers}


@contextmanager
def _answering(servers: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"Kafka at {servers} does not answer: start `layerwatch broker` or `layerwatch up`,"
            " or set LAYERWATCH_KAFKA__BOOTSTRAP"
        ) from error
