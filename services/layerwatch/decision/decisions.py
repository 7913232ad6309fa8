"""Operator: alerts and people's orders to decisions, by service."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from layerwatch.decision.rulebook import Rulebook
from layerwatch.detectors.deciding.state import Override, Standing
from layerwatch.detectors.decision_stage import GRACE_S, DecisionStage, Said
from layerwatch.hosting.operator import Outgoing
from layerwatch.hosting.orders import OrderBook
from layerwatch.schemas import audit, cloudevents, decisions, topics
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.operations import ALL, Operation
from layerwatch.schemas.times import unix_s

_STATE, _HEARD = "state", "heard"
_SOURCE = "/layerwatch/decision"

#: Deployments and changes that are looked at: the newest of a service.
_MARKS = 16


class _Held(msgspec.Struct):
    """A service's stage, and when it last heard of an alert (unix s of the present, whatever the alert's own time)."""

    stage: DecisionStage
    heard_s: float


class Decisions:
    """Operator of `DecisionStage`. Between alerts its clock goes on with the present, so that leases end."""

    name = "decisions"
    source = topics.ALERTS
    parts = (_STATE, _HEARD)

    def __init__(self, rulebook: Rulebook, orders: OrderBook, registry: CollectorRegistry) -> None:
        self._rulebook = rulebook
        self._orders = orders
        self._active = Gauge(
            "layerwatch_decision_active", "1 while it holds", ["service", "action", "mode"], registry=registry
        )
        self._expires = Gauge(
            "layerwatch_decision_expires_timestamp_seconds",
            "Latest end of a lease",
            ["service"],
            registry=registry,
        )
        self._audited = Counter(
            "layerwatch_audit_entries", "Entries of the audit, repeats aside", ["what"], registry=registry
        )

    async def prepare(self, value: bytes) -> Alert:
        return ALERT_READER.decode(value)

    def key(self, record: Alert) -> bytes:
        return record.service.encode()

    def keys_wanted(self) -> Iterable[bytes]:
        """Services that people have given an order about, also those that no alert was ever heard of."""
        now_s = time.time()
        return {
            order.service.encode()
            for order in self._orders.holding_anywhere("override", now_s)
            if order.service != ALL
        }

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> _Held:
        service = key.decode()
        rules = self._rulebook.rules_for(service)
        if _STATE not in parts:
            return _Held(DecisionStage(service, rules), time.time())
        stage = DecisionStage.restore(service, rules, parts[_STATE])
        for decision in stage.active:
            self._show(decision)
        return _Held(stage, float(parts.get(_HEARD) or time.time()))

    def fold(self, state: _Held, record: Alert) -> list[Outgoing]:
        out = self._order(state)
        state.heard_s = time.time()
        return [*out, *self._outgoing(state.stage.update(record))]

    def dump(self, state: _Held, *, whole: bool) -> dict[str, bytes]:
        return {_STATE: state.stage.dump(), _HEARD: repr(state.heard_s).encode()}

    def tick(self, state: _Held, now_s: float) -> list[Outgoing]:
        out = self._order(state)
        if not state.stage.idle:
            out += self._outgoing(state.stage.advance(_clock_s(state)))
        return out

    def _order(self, state: _Held) -> list[Outgoing]:
        """Before anything else, so that a kill wins over an alert that comes with it."""
        stage = state.stage
        if self._standing(stage) == stage.standing:
            return []
        out = self._outgoing(stage.advance(_clock_s(state)))
        return [*out, *self._outgoing(stage.order(self._standing(stage)))]

    def _standing(self, stage: DecisionStage) -> Standing:
        """The orders that hold now, on the stage's own clock: a replay's may be far from the present."""
        now_s, service = time.time(), stage.service
        known = {(override.order, override.revision): override for override in stage.standing.overrides}
        overrides = [
            known.get((order.id, order.revision)) or _override(order, stage.clock_s - now_s)
            for order in self._orders.holding(service, "override", now_s)
        ]
        marks = [unix_s(mark.starts_at or mark.issued_at) for mark in self._orders.marks(service)]
        return Standing(self._orders.killed(service, now_s), overrides, marks[-_MARKS:])

    def _outgoing(self, said: Said) -> list[Outgoing]:
        out = []
        for decision in said.decisions:
            self._show(decision)
            value = encode_json(decision)
            headers = cloudevents.headers(
                id=f"{decision.id}-{decision.revision}",
                type=decisions.CE_TYPE,
                source=_SOURCE,
                time=decision.issued_at,
            )
            key = decision.target.key.encode()
            out.append(Outgoing(topics.DECISIONS, key, value, headers))
            out.append(Outgoing(topics.DECISIONS_CURRENT, key, value, headers))
        for entry in said.audit:
            self._audited.labels(entry.what).inc()
            headers = cloudevents.headers(id=entry.id, type=audit.CE_TYPE, source=_SOURCE, time=entry.at)
            out.append(Outgoing(topics.AUDIT, entry.service.encode(), encode_json(entry), headers))
        return out

    def _show(self, decision: Decision) -> None:
        service = decision.target.service
        self._active.labels(service, decision.action, decision.mode).set(decision.status == "active")
        self._expires.labels(service).set(unix_s(decision.expires_at))


def _clock_s(state: _Held) -> float:
    """Event time now: as far from the last alert's as the present is from when it was heard."""
    now_s, heard_clock_s = time.time(), state.stage.heard_clock_s
    return heard_clock_s + now_s - state.heard_s - GRACE_S if heard_clock_s else now_s


def _override(order: Operation, behind_s: float) -> Override:
    """`behind_s`: by how much the stage's clock is ahead of the present (negative: behind)."""
    assert order.override is not None
    assert order.expires_at is not None
    wanted = order.override
    return Override(
        order=order.id,
        revision=order.revision,
        said=f"{order.reason or 'no reason given'} ({order.author or 'unknown'})",
        action=wanted.action,
        domain=wanted.domain,
        instance=wanted.instance,
        parameters=wanted.parameters,
        until_s=unix_s(order.expires_at) + behind_s,
    )
