"""Third stage: a service's alerts and people's orders to decisions. It keeps the state that `deciding` folds events into."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from layerwatch.detectors.deciding.decide import decide
from layerwatch.detectors.deciding.state import AlertRevised, Clock, Event, Ordered, Rules, Standing, State
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.audit import AuditEntry
from layerwatch.schemas.decisions import Decision

#: Alerts may come so much later than what they tell of: timers wait for them, so that a restart in between changes nothing.
GRACE_S = 2.0


class Said(NamedTuple):
    """What an event leads to, in order."""

    decisions: list[Decision]
    audit: list[AuditEntry]


class DecisionStage:
    """Of one service. Never reads decisions: it cannot be fed by its own output."""

    def __init__(self, service: str, rules: Rules) -> None:
        self._rules = rules
        self._state = State(service)

    @property
    def service(self) -> str:
        return self._state.service

    @property
    def active(self) -> list[Decision]:
        return [lease.decision for lease in self._state.leases.values()]

    @property
    def idle(self) -> bool:
        """Whether nothing can happen without an event: no lease, no firing alert, no order."""
        state = self._state
        return not (state.leases or state.firing or state.standing.overrides)

    @property
    def clock_s(self) -> float:
        """Event time that has been reached, by alerts or by `advance`."""
        return self._state.clock_s

    @property
    def heard_clock_s(self) -> float:
        """Event time of the newest alert."""
        return self._state.heard_s

    @property
    def standing(self) -> Standing:
        """The orders that it goes by."""
        return self._state.standing

    def update(self, alert: Alert) -> Said:
        """A repeated or older revision gives nothing and changes nothing."""
        return self._fold(AlertRevised(alert))

    def order(self, standing: Standing) -> Said:
        """The orders of people as they stand now; the same ones again change nothing."""
        return self._fold(Ordered(standing))

    def advance(self, clock_s: float) -> Said:
        """Event time has come to `clock_s`."""
        return self._fold(Clock(clock_s))

    def _fold(self, event: Event) -> Said:
        decided = decide(self._state, event, self._rules)
        self._state = decided.state
        return Said(decided.decisions, decided.audit)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restore(cls, service: str, rules: Rules, data: bytes) -> DecisionStage:
        """From what `dump` gave. A state of before its fields were as now begins anew."""
        self = cls(service, rules)
        self._state = msgspec.msgpack.decode(data, type=State)
        return self
