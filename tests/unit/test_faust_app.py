"""What we change of faust."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition

from layerwatch.hosting.faust_app import _ConsumerThread

OLD, NEW, TABLE = (TopicPartition(t, 0) for t in ("old", "new", "app-table-changelog"))


class Consumer:
    """Stands in for aiokafka's, which needs Kafka; commits of one partition of three."""

    def __init__(self) -> None:
        self.sought: list[TopicPartition] = []

    async def seek_to_committed(self) -> dict[TopicPartition, int | None]:
        return {OLD: 7, NEW: None, TABLE: None}

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.sought += partitions


def test_a_partition_without_a_commit_is_read_from_its_beginning_after_a_rebalance() -> None:
    thread: Any = object.__new__(_ConsumerThread)
    consumer = Consumer()
    thread._ensure_consumer = lambda: consumer
    assert asyncio.run(thread._seek_to_committed_or_beginning()) == {OLD: 7, NEW: None, TABLE: None}
    assert consumer.sought == [NEW]
