"""The thread that follows the topics for the desk."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from layerwatch.hosting.log_source import Positions, RawRecord
from layerwatch.notify.desk import Desk
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import Outbox
from layerwatch.schemas.errors import Unavailable

_log = logging.getLogger(__name__)

_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 5.0
#: How long a record may be on its way from its author to us: what falls due is told that much later (s).
_ON_THE_WAY_S = 1.0
#: Without an answer of Kafka for so long, we do not count as alive (s).
STUCK_S = 60.0


class Source(Protocol):
    """The topics, from a position on. Raises Unavailable when it must be opened again."""

    def poll(self) -> Sequence[RawRecord]: ...

    def waiting(self) -> int: ...

    def caught_up(self) -> bool: ...

    def close(self) -> None: ...


class Reading:
    """Runs from `start()` until `stop()`; after a failure it calls `ended`."""

    def __init__(
        self,
        connect: Callable[[Positions], Source],
        outbox: Outbox,
        desk: Desk,
        metrics: Metrics,
        ended: Callable[[], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._outbox = outbox
        self._desk = desk
        self._metrics = metrics
        self._ended = ended
        self._prepare = prepare
        self._stopping = threading.Event()
        self._read_s = time.monotonic()
        # A daemon: waiting for a broker that does not answer must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self.ready = False
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait; what it has not taken in by then is read again at the next start."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Whether what is published is read."""
        return self.ready and time.monotonic() - self._read_s < STUCK_S

    def problem(self) -> str | None:
        """What is wrong; None while all is well."""
        still_s = time.monotonic() - self._read_s
        if still_s < STUCK_S:
            return None
        return f"alerts were not read for {still_s:.0f} s: look whether Kafka answers, and at the log"

    def _run(self) -> None:
        try:
            self._prepare()
            self._keep_following()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must not go on without it
            _log.exception("reading the topics failed for good")
            self.failure = error
        finally:
            self._ended()

    def _keep_following(self) -> None:
        wait_s, told = _RETRY_FIRST_S, ""
        while not self._stopping.is_set():
            try:
                with closing(self._connect(self._outbox.positions())) as source:
                    wait_s, told = _RETRY_FIRST_S, ""
                    _log.info("reading the topics")
                    self._follow(source)
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s; trying again", told)
                self._metrics.lag.set(math.nan)  # unknown is not zero
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_MOST_S)

    def _follow(self, source: Source) -> None:
        while not self._stopping.is_set():
            asked_s = time.time()
            records = source.poll()
            if records:
                self._desk.take(records, time.time())
            self._read_s = time.monotonic()
            waiting = source.waiting()
            self._metrics.lag.set(waiting)
            if not records and not waiting and source.caught_up():
                if not self.ready:
                    self.ready = True
                    _log.info("caught up with the topics")
                self._desk.tick(asked_s - _ON_THE_WAY_S)
