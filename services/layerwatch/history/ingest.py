"""The thread that brings alerts and decisions from Kafka into the database."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from layerwatch.history.metrics import Metrics
from layerwatch.history.progress import Progress
from layerwatch.history.rows import READERS
from layerwatch.history.store import Batch, Refused, Store
from layerwatch.hosting.log_reading import LogReading, Source
from layerwatch.hosting.log_source import Position, Positions, RawRecord
from layerwatch.schemas.errors import InvalidRecord

_log = logging.getLogger(__name__)


class Ingest:
    """Runs until `stop()`; then, or after a failure, it calls `ended`. Owns the store from `start()` on."""

    def __init__(
        self,
        store: Store,
        connect: Callable[[Positions], Source],
        progress: Progress,
        metrics: Metrics,
        ended: Callable[[], None],
    ) -> None:
        self._store = store
        self._progress = progress
        self._metrics = metrics
        self._ended = ended
        self._newest_ms = 0
        self._tell_position(store.positions())
        self._reading = LogReading(
            connect, self._step, self._close, positions=store.positions, away=self._away
        )

    @property
    def failure(self) -> Exception | None:
        return self._reading.failure

    def start(self) -> None:
        self._reading.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait; what it has not stored by then is read again at the next start."""
        self._reading.stop(timeout_s)

    def _close(self) -> None:
        self._store.close()
        self._ended()

    def _away(self) -> None:
        self._metrics.lag.set(math.nan)  # unknown is not zero
        self._progress.moved(0)  # waiting for Kafka is not being stuck

    def _step(self, source: Source) -> None:
        records = source.poll()
        if records:
            self._write(records)
        waiting = source.waiting()
        self._metrics.lag.set(waiting)
        if records or not waiting:
            self._progress.moved(waiting)
        if not self._progress.ready and source.caught_up():
            self._progress.ready = True
            _log.info("caught up with the topics")

    def _write(self, records: Sequence[RawRecord]) -> None:
        batch = read(records)
        written = self._store.write(batch)
        for kind, count in written.rows.items():
            self._metrics.rows.labels(kind).inc(count)
        for kind, count in written.repeated.items():
            self._metrics.repeated.labels(kind).inc(count)
        for refused in batch.refused:
            self._metrics.refused.labels(refused.reason).inc()
            _log.warning(
                "refused %s-%d@%d: %s", refused.topic, refused.partition, refused.offset, refused.detail
            )
        self._tell_position(batch.positions)

    def _tell_position(self, positions: Positions) -> None:
        newest_ms = max((position.timestamp_ms for position in positions.values()), default=0)
        if newest_ms > self._newest_ms:
            self._newest_ms = newest_ms
            self._metrics.position.set(newest_ms / 1000)


def read(records: Sequence[RawRecord]) -> Batch:
    """Records as what is written for them: rows, or why they were refused, and the positions behind them."""
    batch = Batch()
    for record in records:
        try:
            batch.revisions.append(READERS[record.topic](record.value or b""))
        except InvalidRecord as error:
            batch.refused.append(
                Refused(
                    record.topic,
                    record.partition,
                    record.offset,
                    record.timestamp_ms,
                    error.reason,
                    error.detail,
                    record.value,
                )
            )
        batch.positions[record.topic, record.partition] = Position(
            record.topic_id, record.offset + 1, record.timestamp_ms
        )
    return batch
