"""Until when each service was judged: without that, no alert does not mean healthy. Read from layerwatch.load, kept in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from layerwatch.hosting.log_source import Positions, RawRecord
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.load import LOAD_READER
from layerwatch.schemas.times import unix_s

_log = logging.getLogger(__name__)

_RETRY_S = 2.0


class Source(Protocol):
    """The topic. Raises Unavailable when it must be opened again."""

    def poll(self) -> Sequence[RawRecord]: ...

    def close(self) -> None: ...


class Heard:
    """Follows the topic from `start()` on in a daemon thread. While Kafka is away what is known grows old by itself."""

    def __init__(self, connect: Callable[[Positions], Source]) -> None:
        self._connect = connect
        self._at_s: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def at_s(self, service: str) -> float | None:
        """Event time (unix s) up to which the service was judged; None where nothing was heard."""
        return self._at_s.get(service)

    def take(self, records: Sequence[RawRecord]) -> None:
        for record in records:
            if record.value is None:
                continue
            try:
                load = LOAD_READER.decode(record.value)
            except InvalidRecord as error:
                _log.warning("refused %s/%d/%d: %s", record.topic, record.partition, record.offset, error)
                continue
            self._at_s[load.service] = max(self._at_s.get(load.service, 0.0), unix_s(load.at))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with closing(self._connect({})) as source:
                    while not self._stopping.is_set():
                        self.take(source.poll())
            except Unavailable:  # the ingest thread tells of it
                self._stopping.wait(_RETRY_S)
            except Exception:  # noqa: BLE001 - no verdict is worth the history: they are unknown from now on
                _log.exception("verdicts are unknown until the next start")
                return
