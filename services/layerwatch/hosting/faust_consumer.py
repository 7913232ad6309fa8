"""faust's Kafka consumer, made to lose nothing when partitions change hands.

faust 0.15.3 loses records then, under a backlog: it empties its queues of what it has read since it went back to the
committed offset, takes the rest of a fetch from before for what comes next, acknowledges what it skips, and stays where it
is in a partition without a commit. Here every record reaches `Positions`, which knows what is missing; what may be
acknowledged is its word alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from mode import Service

from layerwatch.hosting.positions import Partition, Positions

__all__ = ["Transport"]

log = logging.getLogger(__name__)

#: How long a broker may hold a fetch that finds nothing (ms). faust's 1500 cannot be set, and a consumer has one
#: fetch on its way to a broker: while that one waits on idle partitions, those with a backlog wait too.
_FETCH_WAIT_MS = 20

#: How long to wait for records before looking whether to stop (s).
_FETCH_TIMEOUT_S = 1.0

#: Between two looks for something to do (s).
_IDLE_S = 0.05


class _ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that holds aiokafka's consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # read when it starts
        return consumer

    def close(self) -> None:
        """Called when partitions change hands while the process stops, which closes the consumer once all is committed.

        faust's closes it at once, from another thread, and the last commit then tries again without end.
        """

    async def starts(self, partitions: set[Any]) -> dict[Any, int]:
        """Where reading starts: at what is committed, or at the first record there is."""
        starts: dict[Any, int] = await self.call_thread(self._starts, partitions)
        return starts

    async def _starts(self, partitions: set[Any]) -> dict[Any, int]:
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in partitions}
        known = {tp: offset for tp, offset in committed.items() if offset is not None and offset >= 0}
        first: dict[Any, int] = await consumer.beginning_offsets([tp for tp in partitions if tp not in known])
        return known | first


class _Consumer(driver.Consumer):  # type: ignore[misc]
    """`_sought` are partitions and offsets to read from; what was fetched of them meanwhile is from elsewhere."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._positions: Positions = self.transport.positions
        self._sought: dict[Any, int] = {}
        self._follows: dict[Any, int] = {}  # the offset after the last one that was fetched
        self._all_committed = asyncio.Event()  # for the last time: this process stops

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Once partitions are assigned and tables recovered, before records flow.

        The flow is stopped, because faust empties its queues afterwards, and resumes it then.
        """
        self.stop_flow()
        sources = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        starts = await self._thread.starts(sources)
        for tp, offset in starts.items():
            self._positions.begin(Partition(*tp), offset)
            self._committed_offset[tp] = offset
        self._sought.update(starts)

    async def seek_wait(self, partitions: Any) -> None:
        """Where faust reads changelogs from."""
        self._sought.update(partitions)
        await super().seek_wait(partitions)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch records and hand them on, until it is stopped."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                await self._seek_sought()
                active = self._get_active_partitions()
                if not active:
                    await self.sleep(_IDLE_S)
                    continue
                records = await self._getmany(active, _FETCH_TIMEOUT_S)
                await self._hand_on(records or {}, active)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    async def _seek_sought(self) -> None:
        for (topic, number), offset in self._positions.pop_holes().items():
            log.warning("%s/%d: records from %d on are missing, they are read again", topic, number, offset)
            self._sought[self._new_topicpartition(topic, number)] = offset
        sought, self._sought = self._sought, {}
        owned = self.assignment()
        targets = {tp: offset for tp, offset in sought.items() if tp in owned}
        if not targets:
            return
        self._follows.update(targets)
        try:
            await super().seek_wait(targets)
        except IllegalStateError:  # not ours any more: the next assignment seeks anew
            log.info("partitions are changing hands")

    async def _hand_on(self, records: Any, active: Any) -> None:
        """Once for all that was fetched: waiting for either of two costs four tasks."""
        await self.wait_first(self._deliver(records, active), self.suspend_flow.wait())

    async def _deliver(self, records: Any, active: Any) -> None:
        for tp, record in self.scheduler.iterate(records):
            if not self.flow_active or self.should_stop:
                return  # another assignment is coming, and seeks anew
            if tp in self._sought or (tp not in active and tp not in self._buffered_partitions):
                continue
            self._follow(tp, record.offset)
            await self.callback(self._to_message(tp, record))

    def _follow(self, tp: Any, offset: int) -> None:
        """Tells a gap that Kafka has from one that we have."""
        expected = self._follows.get(tp, offset)
        self._follows[tp] = offset + 1
        if self._is_changelog_tp(tp) or offset == expected:
            return
        partition = Partition(*tp)
        if offset > expected:
            self._positions.skip(partition, expected, offset)
        else:
            log.warning("%s/%d starts anew at %d: was the topic created again?", *partition, offset)
            self._positions.begin(partition, offset)
            self._committed_offset[tp] = None

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """When this process stops, the group waits for its last commit: afterwards it would be refused."""
        if self.app.should_stop:
            await self._all_committed.wait()
        else:
            await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Before the thread stops."""
        try:
            await super().on_stop()
        finally:
            self._all_committed.set()

    async def wait_empty(self) -> None:
        """Until all that was taken up is done, and acknowledged: before partitions or the process go."""
        await self.transport.write_all()
        await self.commit_and_end_transactions()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return [self._new_topicpartition(*partition) for partition in self._positions.owned()]

    def _new_offset(self, tp: Any) -> int | None:
        return self._positions.committable(Partition(*tp))


class _Fetcher(base.Fetcher):  # type: ignore[misc]
    """Ends when it is cancelled, as it is at every stop. faust's takes that for a crash while partitions change hands."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _fetcher(self) -> None:
        try:
            await self.app.consumer._drain_messages(self)
        finally:
            self.set_shutdown()


class Transport(driver.Transport):  # type: ignore[misc]
    """To be given the `positions` of the application's lanes, and what writes all their states (`write_all`)."""

    Consumer = _Consumer
    Fetcher = _Fetcher
    positions: Positions
    write_all: Callable[[], Awaitable[None]]
