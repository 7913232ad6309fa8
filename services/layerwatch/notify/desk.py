"""Records in, letters out: folds what is read into the state of each service, and keeps both together in the outbox."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from layerwatch.hosting.log_source import Position, RawRecord
from layerwatch.notify.channels import Directory
from layerwatch.notify.incident import Notice, ServiceState
from layerwatch.notify.life import Rules, Silenced, advance, hear, next_due_s, note
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import Outbox
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.decisions import DECISION_READER
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.topics import ALERTS

_log = logging.getLogger(__name__)


class Desk:
    """Used by one thread. `wake` is called when there may be something to send."""

    def __init__(
        self,
        outbox: Outbox,
        directory: Directory,
        rules: Rules,
        silenced: Silenced,
        metrics: Metrics,
        wake: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._directory = directory
        self._rules = rules
        self._silenced = silenced
        self._metrics = metrics
        self._wake = wake
        self._states = outbox.states()
        self._show()

    def take(self, records: Sequence[RawRecord], now_s: float) -> None:
        """What was read, in order, and how far: all of it or nothing."""
        changed: dict[str, ServiceState] = {}
        notices: list[Notice] = []
        positions: dict[tuple[str, int], Position] = {}
        for record in records:
            positions[record.topic, record.partition] = Position(
                record.topic_id, record.offset + 1, record.timestamp_ms
            )
            try:
                service, state, made = self._fold(record, changed)
            except InvalidRecord as error:
                self._metrics.refused.labels(error.reason).inc()
                _log.warning("refused %s-%d@%d: %s", record.topic, record.partition, record.offset, error)
                continue
            changed[service] = state
            notices += made
        self._write(changed, notices, positions, now_s)

    def tick(self, now_s: float) -> None:
        """What falls due by now. To be called when all has been read that was published before."""
        changed: dict[str, ServiceState] = {}
        notices: list[Notice] = []
        for service, state in self._states.items():
            if next_due_s(state, self._rules) <= now_s:
                after, made = advance(state, service, now_s, self._rules, self._silenced)
                if made or after is not state:
                    changed[service] = after
                    notices += made
        if changed:
            self._write(changed, notices, {}, now_s)

    def _fold(
        self, record: RawRecord, changed: dict[str, ServiceState]
    ) -> tuple[str, ServiceState, list[Notice]]:
        time_s = record.timestamp_ms / 1000
        if record.topic == ALERTS:
            alert = ALERT_READER.decode(record.value or b"")
            state, made = hear(
                self._state(alert.service, changed), alert, time_s, self._rules, self._silenced
            )
            return alert.service, state, made
        decision = DECISION_READER.decode(record.value or b"")
        service = decision.target.service
        return service, note(self._state(service, changed), decision, time_s), []

    def _state(self, service: str, changed: dict[str, ServiceState]) -> ServiceState:
        return changed.get(service) or self._states.get(service) or ServiceState()

    def _write(
        self,
        changed: dict[str, ServiceState],
        notices: list[Notice],
        positions: dict[tuple[str, int], Position],
        now_s: float,
    ) -> None:
        letters = [(notice, self._directory.lanes_of(notice)) for notice in notices]
        self._outbox.write(changed, letters, positions, now_s)
        self._states |= changed
        self._show()
        if notices:
            self._wake()

    def _show(self) -> None:
        self._metrics.incidents.set(sum(len(state.incidents) for state in self._states.values()))
