"""The decision centre's policy at work: a pure function of state and event.

A decision is a lease: it is renewed while its alerts fire, withdrawn with them after its dwell, and ends by itself otherwise.
At most one is active on a target. A kill by a person ends everything at once, and what a person orders stands above the alerts.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from layerwatch.detectors.deciding import own_effect, timers
from layerwatch.detectors.deciding.demand import Demand, demands_of, is_covered
from layerwatch.detectors.deciding.evidence import evidence_of
from layerwatch.detectors.deciding.guard import forbidden
from layerwatch.detectors.deciding.ledger import Ledger
from layerwatch.detectors.deciding.outcome import judge_at_s, judged, judged_at_end
from layerwatch.detectors.deciding.policy import PRECEDENCE, is_told_only
from layerwatch.detectors.deciding.state import (
    AlertRevised,
    Clock,
    Event,
    Firing,
    Lease,
    Ordered,
    Rules,
    Standing,
    State,
    copy_of,
)
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.audit import AuditEntry
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s

#: Revisions of alerts that are remembered, so that a repeat changes nothing.
_REMEMBERED = 256

#: A change that people told of so long before an alert's onset is evidence.
_MARKED_BEFORE_S = 600.0

_MOST_RELAPSES = 4  # the way back is then tried after 16 times hold_s


class Decided(NamedTuple):
    """What an event leads to. `state` is a new one, unless nothing has changed."""

    state: State
    decisions: list[Decision]
    audit: list[AuditEntry]


def decide(state: State, event: Event, rules: Rules) -> Decided:
    """Fold an event in. A repeated alert, order or time gives nothing and changes nothing."""
    if isinstance(event, Clock) and timers.next_due_s(state, rules) > event.at_s:
        if event.at_s > state.clock_s:
            state = msgspec.structs.replace(state, clock_s=event.at_s)
        return Decided(state, [], [])
    if isinstance(event, AlertRevised) and state.seen.get(event.alert.id, 0) >= event.alert.revision:
        return Decided(state, [], [])
    if isinstance(event, Ordered) and event.standing == state.standing:
        return Decided(state, [], [])
    turn = _Turn(copy_of(state), rules)
    turn.take(event)
    return Decided(turn.state, turn.ledger.decisions, turn.ledger.audit)


class _Turn:
    """One event being folded into a state that nobody else holds."""

    def __init__(self, state: State, rules: Rules) -> None:
        self.state = state
        self.rules = rules
        self.ledger = Ledger(state, rules)

    def take(self, event: Event) -> None:
        if isinstance(event, AlertRevised):
            alert = event.alert
            self.state.heard_s = max(self.state.heard_s, unix_s(alert.updated_at))
            self._advance(self.state.heard_s)
            self._hear(alert)
        elif isinstance(event, Ordered):
            self._obey(event.standing)
        else:
            self._advance(event.at_s)
        self._settle()

    def _advance(self, until_s: float) -> None:
        """What falls due on the way happens at its own time, so that it does not matter when we look."""
        while (due_s := timers.next_due_s(self.state, self.rules)) <= until_s:
            self.state.clock_s = max(self.state.clock_s, due_s)
            self._settle()
        self.state.clock_s = max(self.state.clock_s, until_s)

    def _hear(self, alert: Alert) -> None:
        state = self.state
        state.seen.pop(alert.id, None)
        state.seen[alert.id] = alert.revision
        while len(state.seen) > _REMEMBERED:
            del state.seen[next(iter(state.seen))]
        own_effect.note_obeyed(state, alert)
        known = state.firing.get(alert.id)
        if alert.status != "firing" or is_told_only(alert):
            state.firing.pop(alert.id, None)
            return
        firing = self._firing(alert, known)
        if known is None or known.own_until_s > state.clock_s:
            firing.own_until_s = own_effect.own_until_s(state, self.rules, firing)
            if known is None and firing.own_until_s > state.clock_s:
                self.ledger.note("ignored", "what we did ourselves explains it", firing=firing)
        state.firing[alert.id] = firing

    def _firing(self, alert: Alert, known: Firing | None) -> Firing:
        cause = alert.causes[0].cause if alert.causes else "unknown"
        started_s = unix_s(alert.started_at)
        marked = own_effect.was_marked(self.state.standing.marks, started_s, _MARKED_BEFORE_S)
        same = known is not None and known.cause == cause
        return Firing(
            id=alert.id,
            revision=alert.revision,
            kind=alert.kind,
            cause=cause,
            confidence=alert.causes[0].confidence if alert.causes else 0.0,
            severity=alert.severity,
            summary=alert.summary,
            instances=alert.instances,
            fleet=max(alert.fleet or 1, len(alert.instances)),
            started_s=started_s,
            heard_s=self.state.clock_s,
            p99_ratio=alert.impact.p99_ratio,
            evidence=evidence_of(alert, marked),
            step=known.step if known is not None and same else self._first_step(alert.kind, cause),
            own_until_s=known.own_until_s if known is not None else 0.0,
        )

    def _first_step(self, kind: str, cause: str) -> int:
        """The mildest step that was not of no use lately; the last one where all were."""
        policy = self.rules.policy
        steps = policy.rule_for(kind, cause).steps
        for i, step in enumerate(steps):
            useless_s = self.state.useless_s.get(f"{cause}|{step}")
            if useless_s is None or useless_s + policy.memory_s <= self.state.clock_s:
                return i
        return len(steps) - 1

    def _obey(self, standing: Standing) -> None:
        before = self.state.standing
        self.state.standing = standing
        if standing.killed and not before.killed:
            self.ledger.note("killed", standing.killed)
        elif before.killed and not standing.killed:
            self.ledger.note("resumed", "the kill switch was taken back")

    def _settle(self) -> None:
        """Bring the leases to what is wanted at this moment."""
        state = self.state
        for key in sorted(state.leases):
            if state.leases[key].ends_s <= state.clock_s:
                self._expire(key)
        for firing in state.firing.values():
            if 0 < firing.own_until_s <= state.clock_s:  # a switch may have been renewed since
                firing.own_until_s = own_effect.own_until_s(state, self.rules, firing)
        state.firing = {
            id: firing
            for id, firing in state.firing.items()
            if max(firing.heard_s + self.rules.policy.lease_s, firing.own_until_s) > state.clock_s
        }
        if state.standing.killed:
            for key in sorted(state.leases):
                self.ledger.end(key, "withdrawn", f"switched off: {state.standing.killed}")
            state.held = {}
            return
        for key in sorted(state.leases):
            self._judge(key)
        demands = demands_of(state, self.rules)
        for key in sorted({*state.leases, *demands}):
            self._reconcile(key, demands.get(key))
        state.held = {key: held for key, held in state.held.items() if key in demands}

    def _expire(self, key: str) -> None:
        """Nobody renewed it: its alerts are not heard of any more."""
        lease = self.state.leases[key]
        why = "not renewed" if lease.decision.order is None else "the order has ended"
        self.ledger.end(key, "expired", why)
        for id in lease.wants:
            self.state.firing.pop(id, None)

    def _judge(self, key: str) -> None:
        lease = self.state.leases[key]
        if judge_at_s(lease, self.rules) > self.state.clock_s or not lease.wants:
            return
        outcome = judged(self.state, lease, self.rules)
        self.ledger.judge(key, outcome)
        action = lease.decision.action
        if outcome.verdict == "confirmed":
            return
        for firing in (self.state.firing[id] for id in lease.wants if id in self.state.firing):
            steps = self.rules.policy.rule_for(firing.kind, firing.cause).steps
            if action in steps:
                firing.step = max(firing.step, steps.index(action) + 1)
        if self.rules.policy.actions[action].if_useless == "withdraw":
            self.ledger.end(key, "withdrawn", f"of no use: {outcome.said}")

    def _reconcile(self, key: str, demand: Demand | None) -> None:
        lease = self.state.leases.get(key)
        if lease is None:
            if demand is not None:
                self._issue(demand)
            return
        order = demand.override.order if demand is not None and demand.override is not None else None
        if lease.decision.mode != self.rules.mode:
            self.ledger.end(key, "withdrawn", f"the service's mode is {self.rules.mode} now")
        elif lease.decision.order is not None and lease.decision.order != order:
            self.ledger.end(key, "withdrawn", "the order has ended")
        elif lease.decision.order is None and is_covered(self.state, lease.decision.target):
            self.ledger.end(key, "withdrawn", "a person has taken over")
        elif demand is not None and demand.action == lease.decision.action:
            self._keep(key, lease, demand)
            return
        else:
            self._change(key, lease, demand)
            return
        if demand is not None:
            self._issue(demand)

    def _keep(self, key: str, lease: Lease, demand: Demand) -> None:
        lease.wants = demand.alerts
        lease.hold_until_s = None
        heard_s = [self.state.firing[id].heard_s for id in demand.alerts if id in self.state.firing]
        new = [id for id in demand.alerts if id not in lease.decision.alerts]
        due = lease.renewed_s + self.rules.policy.renew_s
        if demand.override is not None:
            if self.state.clock_s >= due and lease.ends_s < demand.override.until_s:
                self.ledger.renew(key, demand)
        elif new or max(heard_s, default=0.0) >= due:
            self.ledger.renew(key, demand)

    def _change(self, key: str, lease: Lease, demand: Demand | None) -> None:
        """Another action is wanted, or none: at once if it is a stronger one, else after the dwell."""
        rank = PRECEDENCE.index
        if demand is not None and rank(demand.action) > rank(lease.decision.action):
            if said := forbidden(self.state, self.rules, demand):
                self.ledger.hold_back(demand, said)
                return
            if lease.decision.action == "restore":
                self.state.relapses[key] = min(self.state.relapses.get(key, 0) + 1, _MOST_RELAPSES)
            ended = self.ledger.end(key, "withdrawn", f"{demand.action} takes over")
            self.ledger.issue(demand, ended.id)
            return
        lease.wants = []
        if self._is_held(key, lease):
            return
        if self.state.clock_s < timers.dwell_ends_s(lease, self.rules):
            return
        back = lease.hold_until_s is not None
        if outcome := judged_at_end(self.state, lease, self.rules):
            self.ledger.judge(key, outcome)
        why = "what it cured may be over: trying the way back" if back else "its alerts have ended"
        if lease.decision.action == "restore":
            why = "the way back holds"
            self.state.relapses.pop(key, None)
        ended = self.ledger.end(key, "withdrawn", why)
        if back and demand is None:
            self.ledger.restore(ended)
        elif demand is not None:
            self._issue(demand, ended.id)

    def _is_held(self, key: str, lease: Lease) -> bool:
        """Whether a switch that was obeyed stays, since the trouble that it cured cannot be seen any more."""
        hold_s = self.rules.policy.actions[lease.decision.action].hold_s
        if not lease.obeyed or not hold_s:
            return False
        if lease.hold_until_s is None:
            lease.hold_until_s = self.state.clock_s + hold_s * 2 ** self.state.relapses.get(key, 0)
        if self.state.clock_s >= lease.hold_until_s:
            return False
        if self.state.clock_s >= lease.renewed_s + self.rules.policy.renew_s:
            self.ledger.renew(key, None)
        return True

    def _issue(self, demand: Demand, supersedes: str | None = None) -> None:
        if said := forbidden(self.state, self.rules, demand):
            self.ledger.hold_back(demand, said)
            return
        self.ledger.issue(demand, supersedes)
