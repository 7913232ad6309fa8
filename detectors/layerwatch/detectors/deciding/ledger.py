"""The only place where leases begin, go on and end: revisions of decisions, and the audit of each step."""

from __future__ import annotations

import hashlib

import msgspec

from layerwatch.detectors.deciding.demand import Demand
from layerwatch.detectors.deciding.own_effect import SWITCHES
from layerwatch.detectors.deciding.state import Effect, Firing, Held, Lease, Rules, State
from layerwatch.schemas.audit import AuditEntry
from layerwatch.schemas.decisions import Decision, Outcome
from layerwatch.schemas.times import rfc3339

#: Actions that change something where they are obeyed. `hold_scale_in` and `none` leave all as it is.
_CHANGING = ("scale_out", "shed", *SWITCHES)

_HOUR_S = 3600.0
_ENDED_KEPT = 256


class Ledger:
    """Writes into a state; `decisions` and `audit` are what it has said so far."""

    def __init__(self, state: State, rules: Rules) -> None:
        self._state = state
        self._rules = rules
        self.decisions: list[Decision] = []
        self.audit: list[AuditEntry] = []

    def issue(self, demand: Demand, supersedes: str | None) -> None:
        """A new lease on a free target."""
        state, policy = self._state, self._rules.policy
        if policy.actions[demand.action].counts and demand.override is None:
            state.counted_s = [at_s for at_s in state.counted_s if at_s > state.clock_s - _HOUR_S]
            state.counted_s.append(state.clock_s)
        self._begin(demand, supersedes)

    def restore(self, ended: Decision) -> None:
        """The way back from a switch that has just ended, on probation."""
        rule = self._rules.policy.actions["restore"]
        demand = Demand(
            target=ended.target,
            action="restore",
            cause="restore",
            reason=f"{ended.action} has held long enough: trying the engine in service again",
            expected=f"no alert for {rule.dwell_s:.0f} s",
            alerts=ended.alerts,
            confidence=ended.confidence,
            evidence=[],
        )
        self._begin(demand, ended.id)

    def _begin(self, demand: Demand, supersedes: str | None) -> None:
        state, key = self._state, demand.target.key
        epoch = state.epochs.get(key, 0) + 1
        state.epochs[key] = epoch
        order = demand.override
        first = demand.alerts[0] if demand.alerts else order.order if order else ""
        ends_s = state.clock_s + self._rules.policy.lease_s
        decision = Decision(
            id="d-" + hashlib.sha256(f"{key}|{epoch}|{first}".encode()).hexdigest()[:16],
            epoch=epoch,
            revision=1,
            supersedes=supersedes,
            status="active",
            target=demand.target,
            action=demand.action,
            mode=self._rules.mode,
            parameters=demand.parameters,
            reason=demand.reason,
            alerts=demand.alerts,
            confidence=demand.confidence,
            expected=demand.expected,
            policy=self._rules.policy.label,
            issued_at=rfc3339(state.clock_s),
            expires_at="",
            evidence=demand.evidence,
            order=order.order if order else None,
        )
        lease = Lease(
            decision=decision,
            cause=demand.cause,
            asked_s=state.clock_s,
            renewed_s=state.clock_s,
            ends_s=min(ends_s, order.until_s) if order else ends_s,
            wants=demand.alerts,
            p99_ratio=demand.p99_ratio,
            fleet=demand.fleet,
        )
        state.leases[key] = lease
        state.held.pop(key, None)
        self._note_effect(decision)
        self._revise(lease, revision=1)
        self.note("issued", decision.reason, lease=lease)

    def renew(self, key: str, demand: Demand | None) -> None:
        """Same id and epoch, a higher revision, a later end."""
        state = self._state
        lease = state.leases[key]
        lease.renewed_s = state.clock_s
        lease.ends_s = state.clock_s + self._rules.policy.lease_s
        changes: dict[str, object] = {}
        if demand is not None:
            if demand.override is not None:
                lease.ends_s = min(lease.ends_s, demand.override.until_s)
            changes = {
                "alerts": list(dict.fromkeys([*lease.decision.alerts, *demand.alerts])),
                "confidence": max(lease.decision.confidence, demand.confidence),
                "evidence": sorted({*lease.decision.evidence, *demand.evidence}),
            }
        self._revise(lease, **changes)

    def judge(self, key: str, outcome: Outcome) -> None:
        """Write down what came of it, for people and for the next choice."""
        lease = self._state.leases[key]
        lease.judged = True
        memory = f"{lease.cause}|{lease.decision.action}"
        if outcome.verdict == "useless":
            self._state.useless_s[memory] = self._state.clock_s
        elif outcome.verdict == "confirmed":
            self._state.useless_s.pop(memory, None)
        self._revise(lease, outcome=outcome)
        self.note("judged", f"{outcome.verdict}: {outcome.said}", lease=lease)

    def end(self, key: str, status: str, why: str) -> Decision:
        """The lease's last revision."""
        state = self._state
        lease = state.leases.pop(key)
        ended_s = max(min(state.clock_s, lease.ends_s), lease.asked_s)
        lease.ends_s = ended_s
        state.ended_s.pop(f"{key}|{lease.decision.action}", None)
        state.ended_s[f"{key}|{lease.decision.action}"] = ended_s
        while len(state.ended_s) > _ENDED_KEPT:
            del state.ended_s[next(iter(state.ended_s))]
        self._note_effect(lease.decision)
        self._revise(lease, status=status, ended_because=why)
        self.note("ended", why, lease=lease)
        return lease.decision

    def hold_back(self, demand: Demand, why: str) -> None:
        """What is wanted and may not be, told once."""
        key = demand.target.key
        held = Held(demand.action, why)
        if self._state.held.get(key) == held:
            return
        self._state.held[key] = held
        self.note("held_back", why, demand=demand)

    def note(
        self,
        what: str,
        why: str,
        *,
        lease: Lease | None = None,
        demand: Demand | None = None,
        firing: Firing | None = None,
    ) -> None:
        """An entry of the audit."""
        state = self._state
        decision = lease.decision if lease else None
        about = decision or demand
        alerts = about.alerts if about else [firing.id] if firing else []
        state.entries += 1
        self.audit.append(
            AuditEntry(
                id=f"{state.service}/{state.entries}",
                service=state.service,
                number=state.entries,
                at=rfc3339(state.clock_s),
                what=what,
                why=why,
                target=about.target.key if about else None,
                action=about.action if about else None,
                mode=self._rules.mode,
                decision=decision.id if decision else None,
                epoch=decision.epoch if decision else None,
                alerts={id: state.seen.get(id, 0) for id in alerts},
                evidence=about.evidence if about else firing.evidence if firing else [],
                policy=self._rules.policy.label,
                software=self._rules.software,
            )
        )

    def _revise(self, lease: Lease, **changes: object) -> None:
        changes.setdefault("revision", lease.decision.revision + 1)
        changes["expires_at"] = rfc3339(lease.ends_s)
        lease.decision = msgspec.structs.replace(lease.decision, **changes)
        self.decisions.append(lease.decision)

    def _note_effect(self, decision: Decision) -> None:
        """Something changes for real: what begins right after may be our own doing."""
        if decision.mode != "enforce" or decision.action not in _CHANGING:
            return
        state = self._state
        since_s = state.clock_s - 2 * self._rules.policy.reaction_s
        state.effects = [effect for effect in state.effects if effect.at_s > since_s]
        state.effects.append(
            Effect(state.clock_s, decision.target.instance if decision.action in SWITCHES else "")
        )
