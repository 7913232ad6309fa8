"""The thread that brings alerts and decisions from Kafka into the database."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from layerwatch.history.metrics import Metrics
from layerwatch.history.progress import Progress
from layerwatch.history.rows import READERS
from layerwatch.history.store import Batch, Refused, Store
from layerwatch.hosting.log_source import Position, Positions, RawRecord
from layerwatch.schemas.errors import InvalidRecord, Unavailable

_log = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.5
_RETRY_MOST_S = 5.0


class Source(Protocol):
    """The topics, from a position on. Raises Unavailable when it must be opened again."""

    def poll(self) -> Sequence[RawRecord]: ...

    def waiting(self) -> int: ...

    def caught_up(self) -> bool: ...

    def close(self) -> None: ...


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
        self._connect = connect
        self._progress = progress
        self._metrics = metrics
        self._ended = ended
        self._newest_ms = 0
        self._tell_position(store.positions())
        self._stopping = threading.Event()
        # A daemon: waiting for a broker that does not answer must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait; what it has not stored by then is read again at the next start."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._keep_following()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must not go on without it
            _log.exception("reading the topics failed for good")
            self.failure = error
        finally:
            self._store.close()
            self._ended()

    def _keep_following(self) -> None:
        wait_s, told = _RETRY_FIRST_S, ""
        while not self._stopping.is_set():
            try:
                with closing(self._connect(self._store.positions())) as source:
                    wait_s, told = _RETRY_FIRST_S, ""
                    _log.info("reading the topics")
                    self._follow(source)
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s; trying again", told)
                self._metrics.lag.set(math.nan)  # unknown is not zero
                self._progress.moved(0)  # waiting for Kafka is not being stuck
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_MOST_S)

    def _follow(self, source: Source) -> None:
        while not self._stopping.is_set():
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
