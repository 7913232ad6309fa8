"""The thread of a service that follows topics from stored positions on, and goes on when Kafka comes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from layerwatch.hosting.log_source import Positions, RawRecord
from layerwatch.schemas.errors import Unavailable

_log = logging.getLogger(__name__)

_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 5.0


class Source(Protocol):
    """The topics, from a position on. Raises Unavailable when it must be opened again."""

    def poll(self) -> Sequence[RawRecord]: ...

    def waiting(self) -> int: ...

    def caught_up(self) -> bool: ...

    def close(self) -> None: ...


class LogReading:
    """Runs from `start()` until `stop()`; after a failure, which is kept, it ends by itself. All it is given runs in its thread.

    Args:
        connect: opens the topics from how far they were read.
        step: polls once, and takes in what has come. May raise Unavailable.
        ended: nothing more is read, since it was asked to stop or failed.
        positions: how far each partition was read; from the beginning by default.
        prepare: once, before anything is read.
        away: Kafka does not answer.
    """

    def __init__(
        self,
        connect: Callable[[Positions], Source],
        step: Callable[[Source], None],
        ended: Callable[[], None] = lambda: None,
        *,
        positions: Callable[[], Positions] = dict,
        prepare: Callable[[], None] = lambda: None,
        away: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect, self._step, self._ended = connect, step, ended
        self._positions, self._prepare, self._away = positions, prepare, away
        self._stopping = threading.Event()
        # A daemon: waiting for a broker that does not answer must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to end and wait; what it has not taken in by then is read again at the next start."""
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
                with closing(self._connect(self._positions())) as source:
                    wait_s, told = _RETRY_FIRST_S, ""
                    _log.info("reading the topics")
                    while not self._stopping.is_set():
                        self._step(source)
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s; trying again", told)
                self._away()
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_MOST_S)
