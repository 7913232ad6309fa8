"""Limits that a decision must keep, however sure its evidence: cooldown, so many an hour, so much of a fleet."""

from __future__ import annotations

from layerwatch.detectors.deciding.demand import Demand
from layerwatch.detectors.deciding.state import Rules, State

_HOUR_S = 3600.0


def forbidden(state: State, rules: Rules, demand: Demand) -> str:
    """Why this may not be issued now; "" if it may. What a person orders is not limited."""
    if demand.override is not None:
        return ""
    rule = rules.policy.actions[demand.action]
    key = demand.target.key
    lease = state.leases.get(key)
    on_probation = lease is not None and lease.decision.action == "restore"  # the way back failed
    free_s = cooled_s(state, rules, key, demand.action)
    if free_s > state.clock_s and not on_probation:
        return f"{demand.action} ended here less than {rule.cooldown_s:.0f} s ago"
    if rule.counts and len(counted(state)) >= rules.policy.actions_per_hour:
        return f"the service has had its {rules.policy.actions_per_hour} actions an hour"
    if rule.per_instance:
        return _too_many(state, rules, demand)
    return ""


def cooled_s(state: State, rules: Rules, key: str, action: str) -> float:
    """When an action may come again on a target (event time)."""
    ended_s = state.ended_s.get(f"{key}|{action}")
    return 0.0 if ended_s is None else ended_s + rules.policy.actions[action].cooldown_s


def counted(state: State) -> list[float]:
    """When the actions of the last hour that count were issued."""
    return [at_s for at_s in state.counted_s if at_s > state.clock_s - _HOUR_S]


def next_free_s(state: State, rules: Rules) -> float:
    """When the oldest action that counts is an hour old; infinity while there is room."""
    taken = counted(state)
    return taken[0] + _HOUR_S if len(taken) >= rules.policy.actions_per_hour else float("inf")


def _too_many(state: State, rules: Rules, demand: Demand) -> str:
    elsewhere = {
        lease.decision.target.instance
        for key, lease in state.leases.items()
        if key != demand.target.key and rules.policy.actions[lease.decision.action].per_instance
    }
    most = max(1, int(rules.max_share * demand.fleet))
    if len(elsewhere) < most:
        return ""
    return f"{len(elsewhere)} of {demand.fleet} instances are away from their engine, {most} may be"
