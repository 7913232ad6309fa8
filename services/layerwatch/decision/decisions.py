"""Operator: alerts to decisions, by service."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from layerwatch.detectors.decision_stage import DecisionStage
from layerwatch.hosting.operator import Outgoing
from layerwatch.schemas import cloudevents, topics
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import CE_TYPE, Decision
from layerwatch.schemas.times import unix_s

_STATE = "state"
_SOURCE = "/layerwatch/decision"


class _Held(msgspec.Struct):
    """A service's stage, and when it last heard of an alert (monotonic s)."""

    stage: DecisionStage
    heard_s: float


class Decisions:
    """Operator of `DecisionStage`. Between alerts its clock goes on with the present, so that leases end."""

    name = "decisions"
    source = topics.ALERTS
    parts = (_STATE,)

    def __init__(self, mode: str, registry: CollectorRegistry) -> None:
        self._mode = mode
        self._active = Gauge(
            "layerwatch_decision_active", "1 while it holds", ["service", "action", "mode"], registry=registry
        )
        self._expires = Gauge(
            "layerwatch_decision_expires_timestamp_seconds",
            "Latest end of a lease",
            ["service"],
            registry=registry,
        )

    async def prepare(self, value: bytes) -> Alert:
        return ALERT_READER.decode(value)

    def key(self, record: Alert) -> bytes:
        return record.service.encode()

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> _Held:
        service, now_s = key.decode(), time.monotonic()
        if _STATE not in parts:
            return _Held(DecisionStage(service, self._mode), now_s)
        return _Held(DecisionStage.restore(service, self._mode, parts[_STATE]), now_s)

    def fold(self, state: _Held, record: Alert) -> list[Outgoing]:
        state.heard_s = time.monotonic()
        return self._outgoing(state.stage.update(record))

    def dump(self, state: _Held, *, whole: bool) -> dict[str, bytes]:
        return {_STATE: state.stage.dump()}

    def tick(self, state: _Held, now_s: float) -> list[Outgoing]:
        if not state.stage.active:
            return []
        return self._outgoing(state.stage.advance(state.stage.heard_clock_s + now_s - state.heard_s))

    def _outgoing(self, decisions: list[Decision]) -> list[Outgoing]:
        out = []
        for decision in decisions:
            self._show(decision)
            value = encode_json(decision)
            headers = cloudevents.headers(
                id=f"{decision.id}-{decision.revision}", type=CE_TYPE, source=_SOURCE, time=decision.issued_at
            )
            key = decision.target.key.encode()
            out.append(Outgoing(topics.DECISIONS, key, value, headers))
            out.append(Outgoing(topics.DECISIONS_CURRENT, key, value, headers))
        return out

    def _show(self, decision: Decision) -> None:
        service = decision.target.service
        self._active.labels(service, decision.action, decision.mode).set(decision.status == "active")
        self._expires.labels(service).set(unix_s(decision.expires_at))
