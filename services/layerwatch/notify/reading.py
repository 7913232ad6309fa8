"""The thread that follows the topics for the desk."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from layerwatch.hosting.log_reading import LogReading, Source
from layerwatch.hosting.log_source import Positions
from layerwatch.notify.desk import Desk
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import Outbox

_log = logging.getLogger(__name__)

#: How long a record may be on its way from its author to us: what falls due is told that much later (s).
_ON_THE_WAY_S = 1.0
#: Without an answer of Kafka for so long, we do not count as alive (s).
STUCK_S = 60.0


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
        self._desk = desk
        self._metrics = metrics
        self._read_s = time.monotonic()
        self._reading = LogReading(
            connect, self._step, ended, positions=outbox.positions, prepare=prepare, away=self._away
        )
        self.ready = False

    @property
    def failure(self) -> Exception | None:
        return self._reading.failure

    def start(self) -> None:
        self._reading.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait; what it has not taken in by then is read again at the next start."""
        self._reading.stop(timeout_s)

    def alive(self) -> bool:
        """Whether what is published is read."""
        return self.ready and time.monotonic() - self._read_s < STUCK_S

    def problem(self) -> str | None:
        """What is wrong; None while all is well."""
        still_s = time.monotonic() - self._read_s
        if still_s < STUCK_S:
            return None
        return f"alerts were not read for {still_s:.0f} s: look whether Kafka answers, and at the log"

    def _away(self) -> None:
        self._metrics.lag.set(math.nan)  # unknown is not zero

    def _step(self, source: Source) -> None:
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
