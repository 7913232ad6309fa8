"""Which alerts are our own doing: a switch of engine shows as another build, moved traffic as load.

Such an alert is not believed while it can be explained by a decision of ours. If it still fires then, it is real.
"""

from __future__ import annotations

from layerwatch.detectors.deciding.state import Firing, Lease, Rules, State
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.times import unix_s

_SLACK_S = 1.0  # by which an onset may be estimated too early
_MARK_BEFORE_S = 60.0  # a person's change explains what begins within so long after it
#: Actions that put another engine into service.
SWITCHES = ("failover", "fallback_precision", "restore")


def is_change_of_build(kind: str, cause: str) -> bool:
    return kind == "engine_regression" or cause == "engine_change"


def own_until_s(state: State, rules: Rules, firing: Firing) -> float:
    """Until when an alert is taken for our own doing; 0 where it is not."""
    change = is_change_of_build(firing.kind, firing.cause)
    shift = firing.kind in ("load", "saturation") or firing.cause == "load"
    if rules.mode != "enforce" or not (change or shift):
        return 0.0
    if change and was_marked(state.standing.marks, firing.started_s, _MARK_BEFORE_S):
        return 0.0
    until_s = 0.0
    if change:
        until_s = max((lease.ends_s for lease in _switches_before(state, firing)), default=0.0)
    known = firing.own_until_s > 0  # such an alert ends some time after the switch that explains it
    for effect in state.effects:
        explains_until_s = effect.at_s + rules.policy.reaction_s
        switched = effect.switched in ("*", *firing.instances)
        near = effect.at_s - _SLACK_S <= firing.started_s <= explains_until_s
        if (near and (shift or switched)) or (known and change and switched):
            until_s = max(until_s, explains_until_s)
    return until_s


def was_marked(marks: list[float], started_s: float, before_s: float) -> bool:
    """Whether people told of a change right before an onset."""
    return any(started_s - before_s <= mark_s <= started_s + _SLACK_S for mark_s in marks)


def note_obeyed(state: State, alert: Alert) -> None:
    """Another build serves on an instance right after we asked for it: somebody has obeyed."""
    if not is_change_of_build(alert.kind, alert.causes[0].cause if alert.causes else ""):
        return
    started_s = unix_s(alert.started_at)
    for lease in state.leases.values():
        decision = lease.decision
        ours = decision.target.instance == "*" or decision.target.instance in alert.instances
        if (
            ours
            and decision.mode == "enforce"
            and decision.action in SWITCHES
            and alert.id not in decision.alerts
            and started_s >= lease.asked_s - _SLACK_S
        ):
            lease.obeyed = True


def _switches_before(state: State, firing: Firing) -> list[Lease]:
    """Switches of ours on an instance of the alert that were asked for before it began."""
    return [
        lease
        for lease in state.leases.values()
        if lease.decision.action in SWITCHES
        and (lease.decision.target.instance in ("*", *firing.instances))
        and firing.started_s >= lease.asked_s - _SLACK_S
        and firing.id not in lease.decision.alerts
    ]
