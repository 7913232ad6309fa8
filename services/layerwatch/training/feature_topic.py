"""Reads `layerwatch.features`: what running processors told of healthy instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.hosting.kafka_types import Consumer
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.topics import FEATURES

_POLL_MS = 500

#: Polls without a record (10 s) after which the end is given up.
_PATIENCE = 20


def feature_records(
    consumer: Consumer, refused: list[InvalidRecord], progress: Callable[[int], None]
) -> Iterator[FeatureRecord]:
    """All records up to the topic's present end; those that cannot be read go to `refused`. `progress(records read)`.

    Raises Unavailable where the topic is missing or its end is not reached.
    """
    partitions = [TopicPartition(FEATURES, n) for n in sorted(consumer.partitions_for_topic(FEATURES) or ())]
    if not partitions:
        raise Unavailable(f"there is no topic {FEATURES}: create it with `layerwatch topics`")
    reader = Reader(FeatureRecord)
    done = quiet = 0
    try:
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        while any((consumer.position(partition) or 0) < end for partition, end in ends.items()):
            polled = consumer.poll(timeout_ms=_POLL_MS)
            quiet = 0 if polled else quiet + 1
            if quiet == _PATIENCE:
                raise Unavailable(f"the end of {FEATURES} does not come: see that Kafka runs")
            for records in polled.values():
                for record in records:
                    try:
                        yield _checked(reader.decode(record.value or b""))
                    except InvalidRecord as error:
                        refused.append(error)
                done += len(records)
            progress(done)
    except KafkaError as error:
        raise Unavailable(f"cannot read {FEATURES} ({error}): see that Kafka runs") from error


def _checked(record: FeatureRecord) -> FeatureRecord:
    """Raises InvalidRecord (bad_column) where its columns are no numbers, or no whole windows."""
    columns = [record.windows, *record.seconds.values(), *record.minutes.values()]
    if any(len(data) % 4 or not np.isfinite(np.frombuffer(data, "<f4")).all() for data in columns):
        raise InvalidRecord("bad_column", f"{record.instance}: a column holds what is no finite float32")
    if record.columns < 1 or len(record.windows) % (4 * record.columns):
        raise InvalidRecord("bad_column", f"{record.instance}: windows are no rows of {record.columns}")
    return record
