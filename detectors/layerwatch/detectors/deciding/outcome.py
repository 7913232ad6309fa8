"""What came of a decision: the effect that was expected of its action, compared with what its alerts show since."""

from __future__ import annotations

from layerwatch.detectors.deciding.state import Firing, Lease, Rules, State
from layerwatch.schemas.decisions import Outcome
from layerwatch.schemas.times import rfc3339

#: An effect has halved, or has grown by a quarter: less is noise of quantiles over some hundred executions.
_RECOVERED, _WORSE = 0.5, 1.25

#: An alert whose requests felt less than this can only recover by its end.
_FELT = 1.2


def judge_at_s(lease: Lease, rules: Rules) -> float:
    """When it is time to look what has come of a decision; infinity for one of which nothing is to come."""
    if lease.judged or not _is_judged(lease, rules):
        return float("inf")
    return lease.asked_s + _within_s(lease, rules)


def judged(state: State, lease: Lease, rules: Rules) -> Outcome:
    """The verdict on a decision whose alerts still fire."""
    firing = [state.firing[id] for id in lease.wants if id in state.firing]
    now = max((f.p99_ratio for f in firing), default=1.0)
    before = lease.p99_ratio
    seen = f"p99 {before:.1f}x -> {now:.1f}x after {state.clock_s - lease.asked_s:.0f} s"
    expects = rules.policy.actions[lease.decision.action].expects
    if expects == "no_worse":
        worse = now > before * _WORSE or any(f.severity == "critical" for f in firing)
        return _outcome(state, "useless" if worse else "confirmed", f"{seen}{_severity(firing)}")
    fleet = max((f.fleet for f in firing), default=lease.fleet)
    if expects == "capacity" and fleet > lease.fleet:
        return _outcome(state, "confirmed", f"{lease.fleet} -> {fleet} instances serve")
    better = before >= _FELT and now - 1 <= (before - 1) * _RECOVERED
    return _outcome(state, "confirmed" if better else "useless", f"{seen}, still firing")


def judged_at_end(state: State, lease: Lease, rules: Rules) -> Outcome | None:
    """The verdict on a decision whose alerts have ended; None where there is nothing to judge, or it was judged before."""
    if lease.judged or not _is_judged(lease, rules):
        return None
    took_s = state.clock_s - lease.asked_s
    if lease.decision.action == "scale_out" and took_s < rules.startup_s:
        return _outcome(state, "unknown", f"over after {took_s:.0f} s, before a new replica could serve")
    return _outcome(state, "confirmed", f"all alerts ended within {took_s:.0f} s")


def _is_judged(lease: Lease, rules: Rules) -> bool:
    """In shadow and advise nobody acted, as far as we know; what a person ordered is theirs to judge."""
    decision = lease.decision
    expects = rules.policy.actions[decision.action].expects
    return decision.mode == "enforce" and decision.order is None and expects != "nothing"


def _within_s(lease: Lease, rules: Rules) -> float:
    within_s = rules.policy.actions[lease.decision.action].within_s
    return within_s + (rules.startup_s if lease.decision.action == "scale_out" else 0.0)


def _severity(firing: list[Firing]) -> str:
    return ", critical" if any(f.severity == "critical" for f in firing) else ""


def _outcome(state: State, verdict: str, said: str) -> Outcome:
    return Outcome(verdict, said, rfc3339(state.clock_s))
