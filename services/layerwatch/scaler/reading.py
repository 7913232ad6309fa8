"""The thread that follows load and decisions for the board."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from layerwatch.hosting.log_source import Positions, RawRecord
from layerwatch.scaler.board import Board
from layerwatch.schemas.errors import Unavailable

_log = logging.getLogger(__name__)

_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 5.0


class Source(Protocol):
    """The topics. Raises Unavailable when it must be opened again."""

    def poll(self) -> Sequence[RawRecord]: ...

    def caught_up(self) -> bool: ...

    def close(self) -> None: ...


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
        self._connect, self._board = connect, board
        self._changed, self._ended, self._prepare = changed, ended, prepare
        self._stopping = threading.Event()
        # A daemon: waiting for a broker that does not answer must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self.read_s = time.monotonic()  # when Kafka last answered
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

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
                with closing(self._connect({})) as source:
                    wait_s, told = _RETRY_FIRST_S, ""
                    self._follow(source)
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s; trying again", told)
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_MOST_S)

    def _follow(self, source: Source) -> None:
        while not self._stopping.is_set():
            records = source.poll()
            self.read_s = time.monotonic()
            self._board.take(records)
            if not self._board.ready and source.caught_up():
                self._board.ready = True
                _log.info("caught up with the topics")
            if records:
                self._changed()
