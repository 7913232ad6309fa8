"""Keyed, stateful stream processing on faust (made in `faust_app`).

Delivery is at least once, and state absorbs repeats. Kafka acknowledges the outputs; then the state, which remembers how far
it has come, is written to a faust table, and Kafka acknowledges that; then the records are acknowledged. A crash before the
last step redelivers them: what the state has seen changes nothing, what it has not gives the same outputs again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka.partitioner import DefaultPartitioner

from layerwatch.hosting import faust_app
from layerwatch.hosting.lane import Keyed, Lane
from layerwatch.hosting.operator import Operator, Outgoing
from layerwatch.hosting.positions import Partition, Positions
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.stream_metrics import StreamMetrics
from layerwatch.hosting.watchdog import Watchdog
from layerwatch.schemas import topics
from layerwatch.schemas.codec import encode
from layerwatch.schemas.deadletter import dead_letter
from layerwatch.schemas.errors import InvalidRecord

log = logging.getLogger(__name__)

_SWEEP_S = 0.1  # between two looks for states that are due to be written
_BUSY_S = 0.02  # between two looks whether a handler is done, before partitions go
_SWEEP_KEYS = 64  # written at once, so that the event loop is not held for long


class StreamApp:
    """A faust application of some operators, run in this process until it is asked to stop.

    Args:
        operators: each reads its own topic.
        before: called once in the event loop's thread before anything is processed (wait for catalogues here).
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        operators: list[Operator],
        *,
        checkpoint_s: float,
        watchdog: Watchdog,
        metrics: StreamMetrics,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._checkpoint_s = checkpoint_s
        self._watchdog = watchdog
        self._metrics = metrics
        self._before = before
        self._partitions = settings.kafka.partitions
        self.ready = False
        self._positions = Positions()
        self._app = faust_app.faust_app(name, settings, self._positions, self._write_all)
        self._topics: dict[str, Any] = {}
        self._on_way: list[Any] = []  # futures of what Kafka has not acknowledged, as far as we know
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._closed = False  # all is written for the last time: faust is about to stop its producer
        self._lanes = [self._lane(operator) for operator in operators]
        self._app.task(self._main)
        self._app.on_partitions_revoked.connect(self._revoked, weak=False)
        self._app.on_rebalance_complete.connect(self._rebalanced, weak=False)

    def run(self) -> None:
        """Until SIGTERM or SIGINT; raises SystemExit at the end, as faust does."""
        faust_app.run(self._app)

    def _lane(self, operator: Operator) -> Lane:
        # Types of bytes choose the raw codec for store and changelog; a schema would break recovery.
        table = self._app.Table(operator.name, key_type=bytes, value_type=bytes, partitions=self._partitions)
        table.send_changelog = self._followed(table.send_changelog)
        lane = Lane(operator, table)
        source = self._topic(operator.source)

        async def stage(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._handle(lane, event)

        self._app.agent(source, name=f"{self._app.conf.id}.{operator.name}", concurrency=1)(stage)
        return lane

    def _followed(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """A table's sending to its changelog, with the futures kept: faust forgets them, and may commit first."""

        def send_and_keep(*args: Any, **options: Any) -> Any:
            future = send(*args, **options)
            self._on_way.append(future)
            return future

        return send_and_keep

    def _topic(self, name: str) -> Any:
        if name not in self._topics:
            self._topics[name] = self._app.topic(
                name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
            )
        return self._topics[name]

    async def _handle(self, lane: Lane, event: Any) -> None:
        name, message = lane.operator.name, event.message
        taken = None
        if not self._closed:
            taken = self._positions.take(Partition(message.topic, message.partition), message.offset)
        if taken is None:
            return
        self._watchdog.begin(name)
        try:
            keyed, outgoing = await self._fold(lane, event)
        except Exception as error:  # a defect of ours: nothing is acknowledged, so nothing is lost
            log.exception("cannot go on")
            self._watchdog.abort(f"{type(error).__name__}: {error}")
            return
        self._send(outgoing)
        if keyed is None:
            lane.refused.append(taken)
        else:
            keyed.records.append(taken)
            keyed.changed()
        self._watchdog.done(name)

    async def _fold(self, lane: Lane, event: Any) -> tuple[Keyed | None, list[Outgoing]]:
        """The state that took the record in, and what it gave; for a refused record its dead letter."""
        operator, message = lane.operator, event.message
        try:
            record = await operator.prepare(event.value or b"")
            key = operator.key(record)
            if key != event.key:
                raise InvalidRecord("wrong_key", f"sent with key {event.key!r} instead of {key!r}")
            keyed = lane.keys.get(key)
            if keyed is None:
                keyed = lane.keys[key] = lane.restored(key, message.partition)
            keyed.partition = message.partition
            outgoing = operator.fold(keyed.state, record)
        except InvalidRecord as error:
            self._metrics.refused.labels(operator.name, error.reason).inc()
            log.warning("refused %s/%d/%d: %s", message.topic, message.partition, message.offset, error)
            return None, [_dead(event, error.reason, error.detail)]
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What validation did not foresee costs the record, not the stream.
            self._metrics.refused.labels(operator.name, "internal").inc()
            log.exception("refused %s/%d/%d", message.topic, message.partition, message.offset)
            return None, [_dead(event, "internal", f"{type(error).__name__}: {error}")]
        self._metrics.records.labels(operator.name).inc()
        return keyed, outgoing

    def _send(self, outgoing: list[Outgoing]) -> None:
        """Never waits: else a state could be written that has folded in what it has not told yet."""
        for record in outgoing:
            topic = self._topic(record.topic)
            self._on_way.append(topic.send_soon(key=record.key, value=record.value, headers=record.headers))

    async def _main(self) -> None:
        """Beside the agents: writes states, ticks, and watches."""
        # Not a task of faust's, which ends before the states are written for the last time.
        self._writer = asyncio.create_task(self._keep_writing(), name="checkpoints")
        next_tick_s = 0.0
        while not self._app.should_stop:
            self._watchdog.tick()
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                next_tick_s = now_s + 1.0
                self._tick(now_s)
                self._watch_lag()
            await asyncio.sleep(_SWEEP_S)

    def _tick(self, now_s: float) -> None:
        for lane in self._lanes if self.ready else ():
            if not self._has_caught_up(lane):
                continue
            self._take_up_wanted(lane)
            for keyed in lane.keys.values():
                if outgoing := lane.operator.tick(keyed.state, now_s):
                    self._send(outgoing)
                    keyed.changed()

    def _has_caught_up(self, lane: Lane) -> bool:
        """Whether all that was there when its partitions came to us is folded in: before, the present says nothing."""
        consumer = self._app.consumer
        for tp in () if lane.caught_up else consumer.assignment():
            if tp.topic == lane.operator.source:
                newest, following = consumer.highwater(tp), self._positions.next(Partition(*tp))
                if newest is None or following is None or following < newest:
                    return False
        lane.caught_up = True
        return True

    def _take_up_wanted(self, lane: Lane) -> None:
        for key in lane.operator.keys_wanted():
            home = Partition(lane.operator.source, self._partition_of(key))
            if key not in lane.keys and self._positions.next(home) is not None:
                self._restore(lane, key)

    async def _keep_writing(self) -> None:
        while not self._closed:
            self._watchdog.tick()
            if self._app.should_stop:
                self._watchdog.stopping()
            await self._write_due(closing=self._app.should_stop or self._app.rebalancing)
            await asyncio.sleep(_SWEEP_S)

    async def _write_all(self) -> None:
        """Before partitions or the process go: until nothing that was taken up is undone, and no state is left."""
        while self._positions.busy():
            await self._write_due(closing=True)
            await asyncio.sleep(_BUSY_S)
        await self._write_due(closing=True)
        self._closed = self._app.should_stop

    async def _write_due(self, *, closing: bool) -> None:
        """Write the states that changed `checkpoint_s` ago, or all to their last part when this process lets go of them.

        One call at a time: no state may overtake an earlier one.
        """
        try:
            async with self._writing:
                for lane in self._lanes:
                    due = [key for key, keyed in lane.keys.items() if self._is_due(keyed, closing)]
                    for i in range(0, len(due), _SWEEP_KEYS):
                        await self._write(lane, due[i : i + _SWEEP_KEYS], whole=closing)
                    if lane.refused:
                        await self._acknowledge_refused(lane)
        except Exception as error:  # without checkpoints nothing would ever be acknowledged
            log.exception("cannot write states")
            self._watchdog.abort(f"{type(error).__name__}: {error}")

    def _is_due(self, keyed: Keyed, closing: bool) -> bool:
        changed_s = keyed.dirty_since_s
        if closing:
            return changed_s is not None or not keyed.whole
        return changed_s is not None and time.monotonic() - changed_s >= self._checkpoint_s

    async def _write(self, lane: Lane, keys: list[bytes], *, whole: bool) -> None:
        """Outputs first, then state, then acknowledgement: the order is what makes a crash harmless."""
        with self._metrics.checkpoint_seconds.time():
            taken = []
            for key in keys:
                keyed = lane.keys[key]
                parts = lane.operator.dump(keyed.state, whole=whole)
                taken.append((key, keyed, parts, keyed.records))
                keyed.records, keyed.dirty_since_s = [], None
                keyed.whole = len(parts) == len(lane.operator.parts)
            await self._settle()
            for key, keyed, parts, _ in taken:
                lane.save(key, keyed.partition, parts)
            await self._settle()
            self._positions.finish(record for *_, records in taken for record in records)

    async def _acknowledge_refused(self, lane: Lane) -> None:
        refused, lane.refused = lane.refused, []
        await self._settle()
        self._positions.finish(refused)

    async def _settle(self) -> None:
        """Until Kafka has acknowledged all that was sent so far; raises what it refused."""
        on_way, self._on_way = self._on_way, []
        await asyncio.gather(*on_way)

    async def _revoked(self, _: Any, revoked: Any, **__: Any) -> None:
        """Another process takes over: what is not written is delivered to it again, alerts of silence are not."""
        self.ready = False
        await self._write_due(closing=True)
        gone = {Partition(tp.topic, tp.partition) for tp in revoked}
        self._positions.end(gone)
        for lane in self._lanes:
            lane.forget(gone)

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        """Tables are recovered: take up every state, so that silence is noticed after a restart too."""
        await asyncio.get_running_loop().run_in_executor(None, self._before)
        for lane in self._lanes:
            for key in lane.written_keys():
                if key not in lane.keys:
                    self._restore(lane, key)
            lane.caught_up = False
        self.ready = True

    def _restore(self, lane: Lane, key: bytes) -> None:
        try:
            lane.keys[key] = lane.restored(key, self._partition_of(key))
        except InvalidRecord as error:
            log.warning("state of %r is left until its next record: %s", key, error)

    def _partition_of(self, key: bytes) -> int:
        everywhere = list(range(self._partitions))
        number: int = DefaultPartitioner()(key, everywhere, everywhere)
        return number

    def _watch_lag(self) -> None:
        consumer = self._app.consumer
        lag = 0
        for tp in consumer.assignment() if self.ready else ():
            newest, following = consumer.highwater(tp), self._positions.next(Partition(*tp))
            if newest and following is not None:
                lag += max(0, newest - following)
        self._metrics.lag.set(lag)
        self._watchdog.behind(lag > 0)


def _dead(event: Any, reason: str, detail: str) -> Outgoing:
    message = event.message
    letter = dead_letter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        reason=reason,
        detail=detail,
        key=event.key,
        value=event.value,
    )
    return Outgoing(topics.DEADLETTER, message.topic.encode(), encode(letter))
