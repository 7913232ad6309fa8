"""When something falls due in a state without any event: event time in unix s."""

from __future__ import annotations

from collections.abc import Iterator

from layerwatch.detectors.deciding import guard
from layerwatch.detectors.deciding.outcome import judge_at_s
from layerwatch.detectors.deciding.state import Lease, Rules, State


def next_due_s(state: State, rules: Rules) -> float:
    """The next moment, not before the state's clock; infinity where there is none."""
    if not (state.leases or state.firing or state.standing.overrides):
        return float("inf")
    if any(lease.decision.mode != rules.mode for lease in state.leases.values()):
        return state.clock_s  # a person has changed the mode: at once
    return min((at_s for at_s in _dues_s(state, rules) if at_s > state.clock_s), default=float("inf"))


def dwell_ends_s(lease: Lease, rules: Rules) -> float:
    """Until when a decision holds though nothing asks for it. What a person ordered ends with the order."""
    dwell_s = rules.policy.actions[lease.decision.action].dwell_s
    return lease.asked_s + (dwell_s if lease.decision.order is None else 0.0)


def _dues_s(state: State, rules: Rules) -> Iterator[float]:
    policy = rules.policy
    for lease in state.leases.values():
        yield lease.ends_s
        yield dwell_ends_s(lease, rules)
        yield judge_at_s(lease, rules)
        if lease.hold_until_s is not None:
            yield lease.hold_until_s
        if lease.hold_until_s is not None or lease.decision.order is not None:
            yield lease.renewed_s + policy.renew_s
    for firing in state.firing.values():
        yield firing.heard_s + policy.lease_s
        yield firing.own_until_s
    for override in state.standing.overrides:
        yield override.until_s
    if state.held:
        yield guard.next_free_s(state, rules)
        for key, held in state.held.items():
            yield guard.cooled_s(state, rules, key, held.action)
