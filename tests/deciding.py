"""For tests of the decision centre: alerts of any kind, rules, and a reader of its log who believes nothing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
from history_records import START_S, alert_json

from layerwatch.detectors.deciding.policy import Policy, shipped_policy
from layerwatch.detectors.deciding.state import Override, Rules
from layerwatch.schemas.alerts import ALERT_READER, Alert, Cause, DetectorScore, Impact
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import rfc3339, unix_s

SERVICE = "bert-qa"
POLICY = shipped_policy()
COUNTED = tuple(name for name, rule in POLICY.actions.items() if rule.counts)

#: What the detectors name when they see each cause.
_DETECTORS = {
    "engine_change": ["build_comparison", "end_to_end_tail"],
    "quantization_range": ["clipping", "reference_error"],
    "host_starvation": ["host_tail"],
    "profile_switch": ["profile_switch"],
}


def rules(mode: str = "enforce", **changes: Any) -> Rules:
    return msgspec.structs.replace(Rules(POLICY, mode), **changes)


def alert(
    id: str = "a", revision: int = 1, cause: str = "gpu_contention", at_s: float = 0.0, **changes: Any
) -> Alert:
    """A firing alert's revision `at_s` after the beginning; `p99` and `detectors` are shorthands."""
    p99 = changes.pop("p99", 3.0)
    began_s = changes.pop("began_s", at_s - revision)
    names = changes.pop("detectors", _DETECTORS.get(cause, ["layer_slice"]))
    made = ALERT_READER.decode(
        alert_json(
            id,
            revision,
            updated_at=rfc3339(START_S + at_s),
            started_at=rfc3339(START_S + began_s),
            **changes,
        )
    )
    return msgspec.structs.replace(
        made,
        causes=[Cause(cause, 0.8, "seen")],
        detectors=[DetectorScore(name, 2.0, 1.0) for name in names],
        impact=Impact(812, 410 if p99 > 1.4 else 0, 1.0, p99, 3.2, 3.2 * p99),
    )


def resolved(
    id: str = "a", revision: int = 2, cause: str = "gpu_contention", at_s: float = 0.0, **changes: Any
) -> Alert:
    made = alert(id, revision, cause, at_s, **changes)
    return msgspec.structs.replace(made, status="resolved", closed_at=made.updated_at)


def override(action: str = "failover", domain: str = "routing", **changes: Any) -> Override:
    good: dict[str, Any] = {
        "order": "o-1",
        "revision": 1,
        "said": "because (me)",
        "action": action,
        "domain": domain,
        "instance": "*",
        "parameters": {},
        "until_s": START_S + 600,
    }
    return Override(**(good | changes))


class Reader:
    """Plays a log as an obedient runtime would, and asserts all that it relies on."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self._policy = policy
        self.active: dict[str, Decision] = {}
        self.issued: list[Decision] = []
        self._last: dict[str, Decision] = {}
        self._epochs: dict[str, int] = defaultdict(int)
        self._ended_s: dict[tuple[str, str], float] = {}

    def read(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            before = self._last.get(decision.id)
            self._issue(decision) if before is None else self._revise(before, decision)
            self._last[decision.id] = decision

    def _issue(self, d: Decision) -> None:
        key = d.target.key
        assert (d.revision, d.status) == (1, "active")
        assert key not in self.active, "two active decisions on one target"
        assert d.epoch > self._epochs[key], "an epoch came again"
        assert unix_s(d.issued_at) < unix_s(d.expires_at) <= unix_s(d.issued_at) + self._policy.lease_s
        rule = self._policy.actions[d.action]
        if d.order is None:
            assert len(d.evidence) >= rule.evidence or d.action == "restore"
            self._assert_within_limits(d)
        self._epochs[key] = d.epoch
        self.active[key] = d
        self.issued.append(d)

    def _assert_within_limits(self, d: Decision) -> None:
        at_s = unix_s(d.issued_at)
        ended_s = self._ended_s.get((d.target.key, d.action))
        way_back_failed = d.supersedes is not None and self._last[d.supersedes].action == "restore"
        if ended_s is not None and not way_back_failed:
            assert at_s - ended_s >= self._policy.actions[d.action].cooldown_s, "within the cooldown"
        counted = [i for i in [*self.issued, d] if i.action in COUNTED and i.order is None]
        hour = [i for i in counted if unix_s(i.issued_at) > at_s - 3600]
        assert len(hour) <= self._policy.actions_per_hour, "too many actions an hour"

    def _revise(self, before: Decision, d: Decision) -> None:
        key = d.target.key
        assert before.status == "active", "it had ended"
        assert d.revision == before.revision + 1
        fixed = ("epoch", "action", "target", "issued_at", "mode", "order", "supersedes", "policy")
        assert all(getattr(d, name) == getattr(before, name) for name in fixed)
        assert self.active[key].id == d.id
        if d.status == "active":
            self.active[key] = d
        else:
            assert d.ended_because
            lasted_s = unix_s(d.expires_at) - unix_s(d.issued_at)
            assert lasted_s >= 0
            assert unix_s(d.expires_at) <= unix_s(before.expires_at), "it held longer than it said"
            if d.ended_because == "its alerts have ended":
                assert lasted_s >= self._policy.actions[d.action].dwell_s - 0.001, "within the dwell"
            del self.active[key]
            self._ended_s[key, d.action] = unix_s(d.expires_at)
