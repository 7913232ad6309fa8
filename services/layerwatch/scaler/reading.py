"""The thread that follows load and decisions for the board."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from layerwatch.hosting.log_reading import LogReading, Source
from layerwatch.hosting.log_source import Positions
from layerwatch.scaler.board import Board

_log = logging.getLogger(__name__)


class Reading:
    """Keeps no position: the topics are short, so a start reads them whole. `changed()` after each batch."""

    def __init__(
        self,
        connect: Callable[[Positions], Source],
        board: Board,
        changed: Callable[[], None],
        ended: Callable[[], None],
        prepare: Callable[[], None],
    ) -> None:
        self._board, self._changed = board, changed
        self._reading = LogReading(connect, self._step, ended, prepare=prepare)
        self.read_s = time.monotonic()  # when Kafka last answered

    @property
    def failure(self) -> Exception | None:
        return self._reading.failure

    def start(self) -> None:
        self._reading.start()

    def stop(self, timeout_s: float) -> None:
        self._reading.stop(timeout_s)

    def _step(self, source: Source) -> None:
        records = source.poll()
        self.read_s = time.monotonic()
        self._board.take(records)
        if not self._board.ready and source.caught_up():
            self._board.ready = True
            _log.info("caught up with the topics")
        if records:
            self._changed()
