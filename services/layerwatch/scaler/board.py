"""The newest of what was told of each service. One thread writes, others ask."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from layerwatch.hosting.log_source import RawRecord
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import Services
from layerwatch.scaler.answer import Answer, Said, Unknown, answer, holds
from layerwatch.schemas import topics
from layerwatch.schemas.decisions import DECISION_READER, Decision
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.load import LOAD_READER, Load
from layerwatch.schemas.times import unix_s

_log = logging.getLogger(__name__)

#: Of instances' numbers; less than the topic keeps, so that a start remembers as much as who never stopped (s).
REMEMBERED_S = 1_500.0


class Board:
    """`mode` holds for services that services.toml gives none. `clock` is unix time."""

    def __init__(
        self,
        services: Services,
        orders: OrderBook,
        mode: str,
        stale_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._services, self._orders = services, orders
        self._mode, self._stale_s, self._clock = mode, stale_s, clock
        self._lock = threading.Lock()
        self._loads: dict[str, Load] = {}
        self._counts: dict[str, dict[float, int]] = {}  # instances by service, then by time of their load
        self._decisions: dict[str, dict[str, Decision]] = {}  # by service, then by target
        #: Whether all has been read that was there at the start: before that, nobody is answered.
        self.ready = False

    def take(self, records: Sequence[RawRecord]) -> None:
        """What is older than what is known changes nothing, so topics may be read again. What cannot be read is told and left."""
        for record in records:
            if record.value is None:
                continue
            try:
                if record.topic == topics.LOAD:
                    self._take_load(LOAD_READER.decode(record.value))
                else:
                    self._take_decision(DECISION_READER.decode(record.value))
            except InvalidRecord as error:
                place = f"{record.topic}/{record.partition}/{record.offset}"
                _log.warning("refused %s: %s", place, error)

    def _take_load(self, load: Load) -> None:
        with self._lock:
            known = self._loads.get(load.service)
            if known is None or load.at >= known.at:  # RFC 3339 in UTC, all of one length
                self._loads[load.service] = load
            counts, at_s = self._counts.setdefault(load.service, {}), unix_s(load.at)
            counts[at_s] = load.instances
            newest_s = unix_s(self._loads[load.service].at)
            for old_s in [s for s in counts if s < newest_s - REMEMBERED_S]:
                del counts[old_s]

    def _take_decision(self, decision: Decision) -> None:
        with self._lock:
            targets = self._decisions.setdefault(decision.target.service, {})
            known = targets.get(decision.target.key)
            if known is None or (decision.epoch, decision.revision) >= (known.epoch, known.revision):
                targets[decision.target.key] = decision

    def answer(self, service: str) -> Answer:
        """What an autoscaler is told now."""
        if not self.ready:
            return Unknown("starting: the topics are not yet read to their end")
        now_s = self._clock()
        said = self._said(service, now_s)
        with self._lock:
            load, targets = self._loads.get(service), list(self._decisions.get(service, {}).values())
            counts = sorted(self._counts.get(service, {}).items()) if targets else []
        return answer(load, targets, counts, said, now_s, self._stale_s)

    def _said(self, service: str, now_s: float) -> Said:
        own = self._services.get(service)
        return Said(self.mode(service), self._hands_off(service, now_s), own.min_replicas, own.max_replicas)

    def _hands_off(self, service: str, now_s: float) -> str | None:
        killed = self._orders.killed(service, now_s)
        if killed is not None:
            return f"killed: {killed}"
        for order in self._orders.holding(service, "override", now_s):
            wanted = order.override
            if wanted is not None and (wanted.action, wanted.domain, wanted.instance) == (
                "none",
                "capacity",
                "*",
            ):
                return order.reason or "an override of action none"
        return None

    def services(self) -> list[str]:
        """All of which something is known."""
        with self._lock:
            return sorted(self._loads.keys() | self._decisions.keys())

    def mode(self, service: str) -> str:
        """shadow, advise or enforce."""
        return self._services.get(service).mode or self._mode

    def load(self, service: str) -> Load | None:
        with self._lock:
            return self._loads.get(service)

    def decisions(self, service: str) -> list[tuple[Decision, bool]]:
        """The last decision of each target, and whether it holds."""
        now_s = self._clock()
        with self._lock:
            return [(d, holds(d, now_s)) for d in self._decisions.get(service, {}).values()]
