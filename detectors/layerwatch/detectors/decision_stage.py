"""Third stage: a service's alerts to decisions. A decision is a lease; what is not renewed ends."""

from __future__ import annotations

import hashlib

import msgspec

from layerwatch.detectors.policy import POLICY, PRECEDENCE, Advice, advise
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision, Target
from layerwatch.schemas.times import rfc3339, unix_s

LEASE_S = 300.0
RENEW_S = 30.0

#: Revisions of alerts that are remembered, so that a repeat changes nothing.
_REMEMBERED = 256


class _Lease(msgspec.Struct):
    decision: Decision  # last revision
    firing: list[str]  # alerts that still ask for it


class _State(msgspec.Struct):
    leases: dict[str, _Lease] = {}  # active ones, by target key
    epochs: dict[str, int] = {}  # by target key; only grows
    seen: dict[str, int] = {}  # alert id: last revision folded in
    clock_s: float = 0.0
    heard_s: float = 0.0


class DecisionStage:
    """Folds one service's alerts. Never reads decisions: it cannot be fed by its own output."""

    def __init__(self, service: str, mode: str) -> None:
        self._service = service
        self._mode = mode
        self._state = _State()

    @property
    def active(self) -> list[Decision]:
        return [lease.decision for lease in self._state.leases.values()]

    @property
    def clock_s(self) -> float:
        """Event time that has been reached, by alerts or by `advance`."""
        return self._state.clock_s

    @property
    def heard_clock_s(self) -> float:
        """Event time of the newest alert."""
        return self._state.heard_s

    def update(self, alert: Alert) -> list[Decision]:
        """A repeated or older revision gives [] and changes nothing."""
        if self._state.seen.get(alert.id, 0) >= alert.revision:
            return []
        self._state.seen.pop(alert.id, None)
        self._state.seen[alert.id] = alert.revision
        while len(self._state.seen) > _REMEMBERED:
            del self._state.seen[next(iter(self._state.seen))]
        self._state.heard_s = max(self._state.heard_s, unix_s(alert.updated_at))
        out = self.advance(self._state.heard_s)
        advice = advise(alert)
        asked = None
        if alert.status == "firing" and advice is not None:
            asked = Target(alert.service, "*", advice.domain).key
            out += self._ask(alert, advice)
        for key in [k for k, lease in self._state.leases.items() if alert.id in lease.firing and k != asked]:
            out += self._release(key, alert.id)
        return out

    def advance(self, clock_s: float) -> list[Decision]:
        """Event time has come to `clock_s`: leases that nobody renewed have expired."""
        self._state.clock_s = max(self._state.clock_s, clock_s)
        over = [k for k, lease in self._state.leases.items() if unix_s(lease.decision.expires_at) <= clock_s]
        return [self._end(key, "expired") for key in over]

    def _ask(self, alert: Alert, advice: Advice) -> list[Decision]:
        target = Target(alert.service, "*", advice.domain)
        lease = self._state.leases.get(target.key)
        if lease is None:
            return [self._issue(target, alert, advice, None)]
        if lease.decision.action == advice.action:
            return self._join(lease, alert)
        if PRECEDENCE.index(advice.action) < PRECEDENCE.index(lease.decision.action):
            return []
        withdrawn = self._end(target.key, "withdrawn")
        return [withdrawn, self._issue(target, alert, advice, withdrawn.id)]

    def _issue(self, target: Target, alert: Alert, advice: Advice, supersedes: str | None) -> Decision:
        epoch = self._state.epochs.get(target.key, 0) + 1
        self._state.epochs[target.key] = epoch
        text = f"{target.key}|{epoch}|{alert.id}"
        decision = Decision(
            id="d-" + hashlib.sha256(text.encode()).hexdigest()[:16],
            epoch=epoch,
            revision=1,
            supersedes=supersedes,
            status="active",
            target=target,
            action=advice.action,
            mode=self._mode,
            reason=f"{alert.causes[0].cause}: {advice.reason} ({alert.summary})",
            alerts=[alert.id],
            confidence=alert.causes[0].confidence,
            expected=advice.expected,
            policy=POLICY,
            issued_at=rfc3339(self._state.clock_s),
            expires_at=rfc3339(self._state.clock_s + LEASE_S),
        )
        self._state.leases[target.key] = _Lease(decision, [alert.id])
        return decision

    def _join(self, lease: _Lease, alert: Alert) -> list[Decision]:
        """One more alert asks for the same, or the same one still does: renewed when it is due."""
        new = alert.id not in lease.firing
        renewed_s = unix_s(lease.decision.expires_at) - LEASE_S
        if not new and self._state.clock_s - renewed_s < RENEW_S:
            return []
        if new:
            lease.firing.append(alert.id)
        lease.decision = msgspec.structs.replace(
            lease.decision,
            revision=lease.decision.revision + 1,
            alerts=list(dict.fromkeys([*lease.decision.alerts, alert.id])),
            confidence=max(lease.decision.confidence, alert.causes[0].confidence),
            expires_at=rfc3339(self._state.clock_s + LEASE_S),
        )
        return [lease.decision]

    def _release(self, key: str, alert_id: str) -> list[Decision]:
        lease = self._state.leases[key]
        lease.firing.remove(alert_id)
        return [] if lease.firing else [self._end(key, "withdrawn")]

    def _end(self, key: str, status: str) -> Decision:
        last = self._state.leases.pop(key).decision
        ended_s = min(self._state.clock_s, unix_s(last.expires_at))
        return msgspec.structs.replace(
            last,
            revision=last.revision + 1,
            status=status,
            expires_at=rfc3339(max(ended_s, unix_s(last.issued_at))),
        )

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restore(cls, service: str, mode: str, data: bytes) -> DecisionStage:
        self = cls(service, mode)
        self._state = msgspec.msgpack.decode(data, type=_State)
        return self
