"""What the firing alerts, or people, ask for: one action on each target, the strongest of those asked for."""

from __future__ import annotations

import msgspec

from layerwatch.detectors.deciding.policy import PRECEDENCE, CauseRule
from layerwatch.detectors.deciding.state import Firing, Override, Rules, State
from layerwatch.schemas.decisions import Target

_ORDERED = "as a person has ordered"


class Demand(msgspec.Struct):
    """An action that is asked for on a target."""

    target: Target
    action: str
    cause: str
    reason: str
    expected: str
    alerts: list[str]
    confidence: float
    evidence: list[str]
    p99_ratio: float = 1.0
    fleet: int = 1
    parameters: dict[str, str | int | float] = {}
    override: Override | None = None


def demands_of(state: State, rules: Rules) -> dict[str, Demand]:
    """By target key. People's orders stand instead of what alerts ask for, on every target that they cover."""
    found: dict[str, Demand] = {}
    for firing in state.firing.values():
        if firing.own_until_s > state.clock_s:
            continue
        for demand in _asked_by(firing, state.service, rules):
            if _covering(state, demand.target) is None:
                _merge(found, demand)
    for override in state.standing.overrides:
        if override.until_s > state.clock_s:
            demand = _ordered(state.service, override)
            found[demand.target.key] = demand
    return found


def is_covered(state: State, target: Target) -> bool:
    """Whether people have taken a target over."""
    return _covering(state, target) is not None


def _covering(state: State, target: Target) -> Override | None:
    for override in state.standing.overrides:
        mine = override.instance in ("*", target.instance) and override.domain == target.domain
        if mine and override.until_s > state.clock_s:
            return override
    return None


def _asked_by(firing: Firing, service: str, rules: Rules) -> list[Demand]:
    policy = rules.policy
    rule = policy.rule_for(firing.kind, firing.cause)
    wanted = [
        step
        for i, step in enumerate(rule.steps[: firing.step + 1])
        if i == firing.step or policy.actions[step].if_useless == "keep"
    ]
    if firing.step >= len(rule.steps):
        wanted.append("none")
    out: list[Demand] = []
    for action in dict.fromkeys(wanted):
        needs = policy.actions[action].evidence
        if len(firing.evidence) < needs:
            said = (
                f"{action} needs {needs} independent kinds of evidence, there is {_listed(firing.evidence)}"
            )
            out += _demands(firing, service, rules, rule, "none", f"{rule.reason}; {said}")
        elif firing.step >= len(rule.steps) and action == "none":
            out += _demands(
                firing, service, rules, rule, "none", f"{rule.reason}; nothing that was tried helped"
            )
        else:
            out += _demands(firing, service, rules, rule, action, rule.reason)
    return out


def _demands(
    firing: Firing, service: str, rules: Rules, rule: CauseRule, action: str, reason: str
) -> list[Demand]:
    own = rules.policy.actions[action]
    engine = {"failover": rules.standby, "fallback_precision": rules.fallback}.get(action)
    return [
        Demand(
            target=Target(service, instance, own.domain),
            action=action,
            cause=firing.cause,
            reason=f"{firing.cause}: {reason} ({firing.summary})",
            expected=rule.expected,
            alerts=[firing.id],
            confidence=firing.confidence,
            evidence=firing.evidence,
            p99_ratio=firing.p99_ratio,
            fleet=firing.fleet,
            parameters={"engine": engine} if engine else {},
        )
        for instance in (firing.instances if own.per_instance else ["*"])
    ]


def _ordered(service: str, override: Override) -> Demand:
    return Demand(
        target=Target(service, override.instance, override.domain),
        action=override.action,
        cause="order",
        reason=f"ordered: {override.said}",
        expected=_ORDERED,
        alerts=[],
        confidence=1.0,
        evidence=[],
        parameters=override.parameters,
        override=override,
    )


def _merge(found: dict[str, Demand], demand: Demand) -> None:
    key = demand.target.key
    other = found.get(key)
    if other is None or PRECEDENCE.index(demand.action) > PRECEDENCE.index(other.action):
        found[key] = demand
    elif demand.action == other.action:
        other.alerts = [*other.alerts, *demand.alerts]
        other.confidence = max(other.confidence, demand.confidence)
        other.evidence = sorted({*other.evidence, *demand.evidence})
        other.p99_ratio = max(other.p99_ratio, demand.p99_ratio)
        other.fleet = max(other.fleet, demand.fleet)


def _listed(evidence: list[str]) -> str:
    return ", ".join(evidence) if evidence else "none"
