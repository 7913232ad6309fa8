"""Alerts to decisions: leases that end, epochs that only grow, one decision on a target at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from history_records import START_S, alert_json
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.decision_stage import LEASE_S, RENEW_S, DecisionStage
from layerwatch.detectors.policy import PRECEDENCE, Advice, advise
from layerwatch.schemas.alerts import ALERT_READER, CAUSES, KINDS, Alert, Cause
from layerwatch.schemas.decisions import ACTIONS, DOMAINS, MODES, Decision
from layerwatch.schemas.times import rfc3339, unix_s


def alert(
    id: str = "a", revision: int = 1, cause: str = "gpu_contention", at_s: float = 0.0, **changes: Any
) -> Alert:
    made = ALERT_READER.decode(alert_json(id, revision, updated_at=rfc3339(START_S + at_s), **changes))
    return msgspec.structs.replace(made, causes=[Cause(cause, 0.8, "seen")])


def resolved(id: str = "a", revision: int = 2, cause: str = "gpu_contention", at_s: float = 0.0) -> Alert:
    at = rfc3339(START_S + at_s)
    return msgspec.structs.replace(alert(id, revision, cause, at_s), status="resolved", closed_at=at)


def advice_for(**changes: Any) -> Advice:
    advice = advise(alert(**changes))
    assert advice is not None
    return advice


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_and_kind_has_advice_that_the_contract_knows(cause: str, kind: str) -> None:
    advice = advice_for(cause=cause, kind=kind)
    assert advice.action in ACTIONS
    assert advice.domain in DOMAINS
    assert advice.reason
    assert advice.expected


def test_every_action_has_its_place_in_the_order() -> None:
    assert sorted(PRECEDENCE) == sorted(ACTIONS)


@pytest.mark.parametrize("cause", CAUSES)
def test_what_is_only_worth_knowing_asks_for_nothing(cause: str) -> None:
    assert advise(alert(cause=cause, severity="info")) is None
    assert DecisionStage("bert-qa", "shadow").update(alert(cause=cause, severity="info")) == []


@pytest.mark.parametrize(
    ("changes", "action", "domain"),
    [
        ({"cause": "gpu_contention"}, "scale_out", "capacity"),
        ({"cause": "memory_bandwidth"}, "scale_out", "capacity"),
        ({"cause": "load"}, "scale_out", "capacity"),
        ({"cause": "unknown", "kind": "engine_regression"}, "failover", "routing"),
        ({"cause": "gpu_contention", "kind": "engine_regression"}, "failover", "routing"),
        ({"cause": "quantization_range"}, "fallback_precision", "routing"),
        ({"cause": "profile_switch"}, "none", "routing"),
        ({"cause": "host_starvation"}, "hold_scale_in", "capacity"),
        ({"cause": "unknown"}, "hold_scale_in", "capacity"),
        ({"cause": "gpu_contention", "kind": "silence"}, "hold_scale_in", "capacity"),
    ],
)
def test_the_advice_fits_the_trouble(changes: dict[str, str], action: str, domain: str) -> None:
    advice = advice_for(**changes)
    assert (advice.action, advice.domain) == (action, domain)


def test_a_switch_of_profile_is_advice_for_people() -> None:
    (decision,) = DecisionStage("bert-qa", "advise").update(alert(cause="profile_switch"))
    assert decision.action == "none"
    assert "execution context of its own" in decision.reason


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_is_carried(mode: str) -> None:
    (decision,) = DecisionStage("bert-qa", mode).update(alert())
    assert decision.mode == mode


@dataclass
class History:
    """Revisions of some alerts; `told` for repeats."""

    revisions: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    told: list[Alert] = field(default_factory=list)

    def next(self, id: str, cause: str, kind: str, severity: str, ends: bool, at_s: float) -> Alert | None:
        if id in self.ended:
            return None
        revision = self.revisions[id] = self.revisions.get(id, 0) + 1
        if ends and revision > 1:
            self.ended.add(id)
            made = msgspec.structs.replace(resolved(id, revision, cause, at_s), severity=severity, kind=kind)
        else:
            made = alert(id, revision, cause, at_s, severity=severity, kind=kind)
        self.told.append(made)
        return made


Step = tuple[str, str, str, str, bool, float, int]
steps = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from(CAUSES),
        st.sampled_from(["layer_latency", "layer_latency", "engine_regression", "silence"]),
        st.sampled_from(["info", "warning", "warning", "critical"]),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 5.0, 31.0, 301.0]),
        st.integers(0, 2),
    ),
    max_size=40,
)


def played(history: list[Step], restart: bool = False) -> tuple[list[Decision], DecisionStage]:
    stage, past, out, clock_s = DecisionStage("bert-qa", "enforce"), History(), [], 0.0
    for i, (id, cause, kind, severity, ends, wait_s, again) in enumerate(history):
        clock_s += wait_s
        made = past.next(id, cause, kind, severity, ends, clock_s)
        if made is None:
            out += stage.advance(START_S + clock_s)
            continue
        out += stage.update(made)
        for _ in range(again):
            state = stage.dump()
            assert stage.update(past.told[(5 * i) % len(past.told)]) == []
            assert stage.dump() == state
        if restart:
            stage = DecisionStage.restore("bert-qa", "enforce", stage.dump())
    return out, stage


def replay(decisions: list[Decision]) -> dict[str, Decision]:
    """Active decisions by target after all revisions, each of them checked."""
    active: dict[str, Decision] = {}
    epochs: dict[str, int] = {}
    last: dict[str, Decision] = {}
    for d in decisions:
        key, before = d.target.key, last.get(d.id)
        assert d.revision == (before.revision + 1 if before else 1)
        if before is None:
            assert d.status == "active"
            assert key not in active
            assert d.epoch == epochs.get(key, 0) + 1
            epochs[key] = d.epoch
            active[key] = d
        else:
            assert before.status == "active"
            assert (d.epoch, d.action, d.target, d.issued_at) == (
                before.epoch,
                before.action,
                before.target,
                before.issued_at,
            )
            assert active[key].id == d.id
        if d.status == "active":
            assert unix_s(d.expires_at) > unix_s(d.issued_at)
            active[key] = d
        else:
            del active[key]
        last[d.id] = d
    return active


@settings(max_examples=200, deadline=None)
@given(steps)
def test_leases_are_told_in_order_and_all_of_them_end(history: list[Step]) -> None:
    decisions, stage = played(history)
    active = replay(decisions)
    assert sorted(d.id for d in active.values()) == sorted(d.id for d in stage.active)
    decisions += stage.advance(stage.clock_s + LEASE_S)
    assert replay(decisions) == {}
    assert stage.active == []
    assert stage.advance(stage.clock_s + 10 * LEASE_S) == []


@settings(max_examples=60, deadline=None)
@given(steps)
def test_restarts_in_between_change_nothing(history: list[Step]) -> None:
    assert played(history, restart=True)[0] == played(history)[0]


@settings(max_examples=60, deadline=None)
@given(steps)
def test_when_every_alert_has_ended_nothing_is_asked_for(history: list[Step]) -> None:
    decisions, stage = played(history)
    last = {a.id: a for a in _alerts(history)}
    at_s = stage.clock_s - START_S
    for a in last.values():
        if a.status == "firing":
            decisions += stage.update(
                msgspec.structs.replace(resolved(a.id, a.revision + 1, at_s=max(at_s, 0)), kind=a.kind)
            )
    assert replay(decisions) == {}


def _alerts(history: list[Step]) -> list[Alert]:
    past, clock_s = History(), 0.0
    for id, cause, kind, severity, ends, wait_s, _ in history:
        clock_s += wait_s
        past.next(id, cause, kind, severity, ends, clock_s)
    return past.told


def test_a_lease_is_renewed_each_half_minute_under_the_same_id() -> None:
    stage, out = DecisionStage("bert-qa", "shadow"), []
    for i in range(1, 20):
        out += stage.update(alert(revision=i, at_s=5.0 * i))
    assert len({(d.id, d.epoch) for d in out}) == 1
    gaps = [unix_s(b.expires_at) - unix_s(a.expires_at) for a, b in pairwise(out)]
    assert gaps == [RENEW_S] * len(gaps)
    assert len(out) == 4


def test_what_nobody_renews_expires_when_it_said() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    (decision,) = stage.update(alert())
    until_s = unix_s(decision.expires_at)
    assert stage.advance(until_s - 0.001) == []
    (ended,) = stage.advance(until_s + 500)
    assert (ended.status, ended.expires_at) == ("expired", decision.expires_at)


def test_two_alerts_that_ask_for_the_same_share_a_lease_until_the_last_has_ended() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    stage.update(alert("a", at_s=0))
    (joined,) = stage.update(alert("b", cause="memory_bandwidth", at_s=1))
    assert joined.alerts == ["a", "b"]
    assert stage.update(resolved("a", 2, at_s=2)) == []
    (ended,) = stage.update(resolved("b", 2, "memory_bandwidth", at_s=3))
    assert ended.status == "withdrawn"


def test_the_stronger_action_takes_over_and_says_what_it_supersedes() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    (hold,) = stage.update(alert("a", cause="host_starvation", at_s=0))
    withdrawn, scale = stage.update(alert("b", cause="gpu_contention", at_s=1))
    assert (withdrawn.id, withdrawn.status) == (hold.id, "withdrawn")
    assert (scale.action, scale.supersedes, scale.epoch) == ("scale_out", hold.id, 2)
    assert stage.update(alert("a", 2, "host_starvation", at_s=2)) == []


def test_more_replicas_and_another_engine_can_hold_together() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    stage.update(alert("a"))
    stage.update(alert("b", kind="engine_regression"))
    assert sorted(d.target.domain for d in stage.active) == ["capacity", "routing"]


def test_an_alert_that_turns_out_to_be_minor_asks_no_longer() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    stage.update(alert("a", 1))
    (ended,) = stage.update(alert("a", 2, at_s=1, severity="info"))
    assert ended.status == "withdrawn"


def test_an_alert_that_turns_to_another_domain_takes_its_lease_along() -> None:
    stage = DecisionStage("bert-qa", "shadow")
    stage.update(alert("a", 1))
    out = stage.update(alert("a", 2, cause="quantization_range", at_s=1))
    assert [(d.target.domain, d.status) for d in out] == [("routing", "active"), ("capacity", "withdrawn")]
