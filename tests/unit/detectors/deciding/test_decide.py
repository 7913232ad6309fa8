"""What the decision centre does in the cases that people ask about."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from deciding import POLICY, SERVICE, alert, override, resolved, rules
from history_records import START_S

from layerwatch.detectors.deciding.decide import decide
from layerwatch.detectors.deciding.state import AlertRevised, Clock, Ordered, Standing, State
from layerwatch.detectors.decision_stage import DecisionStage, Said
from layerwatch.schemas.alerts import CAUSES
from layerwatch.schemas.audit import EVENTS
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import MODES, Decision
from layerwatch.schemas.json import load
from layerwatch.schemas.times import unix_s


def stage(mode: str = "enforce", **changes: Any) -> DecisionStage:
    return DecisionStage(SERVICE, rules(mode, **changes))


def said(result: Said) -> list[tuple[str, str]]:
    return [(d.action, d.status) for d in result.decisions]


def audited(result: Said) -> list[str]:
    return [entry.what for entry in result.audit]


def advance(made: DecisionStage, at_s: float) -> Said:
    return made.advance(START_S + at_s)


def only(result: Said) -> Decision:
    (decision,) = result.decisions
    return decision


def test_an_event_changes_no_state_that_somebody_holds() -> None:
    before = State(SERVICE)
    decided = decide(before, AlertRevised(alert()), rules())
    assert before == State(SERVICE)
    assert decided.state != before
    assert decide(decided.state, AlertRevised(alert()), rules()).state is decided.state
    assert decide(decided.state, Ordered(Standing()), rules()).state is decided.state
    assert decide(decided.state, Clock(0.0), rules()).state is decided.state


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("mode", MODES)
def test_each_cause_gets_its_first_step_in_every_mode(cause: str, mode: str) -> None:
    decision = only(stage(mode).update(alert(cause=cause)))
    assert decision.action == POLICY.causes[cause].steps[0]
    assert (decision.mode, decision.policy) == (mode, "default@2")


@pytest.mark.parametrize("cause", CAUSES)
def test_what_is_only_worth_knowing_asks_for_nothing(cause: str) -> None:
    assert stage().update(alert(cause=cause, severity="info")) == Said([], [])


def test_a_lease_is_renewed_each_half_minute_under_the_same_id_and_ends_by_itself() -> None:
    made, out = stage("shadow"), []
    for i in range(1, 20):
        out += made.update(alert(revision=i, at_s=5.0 * i)).decisions
    assert len({(d.id, d.epoch) for d in out}) == 1
    assert [unix_s(d.expires_at) - unix_s(out[0].expires_at) for d in out] == [0, 30, 60, 90]
    until_s = unix_s(out[-1].expires_at)
    assert made.advance(until_s - 0.001) == Said([], [])
    ended = only(made.advance(until_s + 500))
    assert (ended.status, ended.expires_at) == ("expired", out[-1].expires_at)


def test_a_decision_ends_with_its_last_alert_but_not_before_its_dwell() -> None:
    made = stage()
    made.update(alert("a", at_s=0))
    joined = only(made.update(alert("b", cause="memory_bandwidth", at_s=1)))
    assert joined.alerts == ["a", "b"]
    assert made.update(resolved("a", 2, at_s=2)).decisions == []
    assert made.update(resolved("b", 2, "memory_bandwidth", at_s=3)).decisions == []
    judged, ended = advance(made, 60).decisions
    assert judged.outcome is not None
    assert judged.outcome.verdict == "unknown", "no replica can have served by then"
    assert (ended.status, ended.ended_because) == ("withdrawn", "its alerts have ended")
    assert unix_s(ended.expires_at) == START_S + POLICY.actions["scale_out"].dwell_s


def test_the_stronger_action_takes_over_and_the_weaker_one_comes_back() -> None:
    made = stage()
    hold = only(made.update(alert("a", cause="host_starvation", at_s=0)))
    ended, scale = made.update(alert("b", at_s=1)).decisions
    assert (ended.id, ended.status, scale.supersedes, scale.epoch) == (hold.id, "withdrawn", hold.id, 2)
    assert made.update(alert("a", 2, "host_starvation", at_s=2)).decisions == []
    assert made.update(resolved("b", 2, at_s=5)).decisions == []
    assert said(advance(made, 11))[-2:] == [("scale_out", "withdrawn"), ("hold_scale_in", "active")]


def test_more_replicas_and_another_engine_hold_together() -> None:
    made = stage()
    made.update(alert("a"))
    made.update(alert("b", cause="engine_change", kind="engine_regression"))
    assert sorted(d.target.domain for d in made.active) == ["capacity", "routing"]


@pytest.mark.parametrize(
    ("cause", "detectors", "action"),
    [
        ("quantization_range", ["clipping"], "none"),
        ("quantization_range", ["clipping", "isolation_forest"], "none"),
        ("quantization_range", ["clipping", "reference_error"], "fallback_precision"),
        ("engine_change", ["build_comparison"], "none"),
        ("engine_change", ["build_comparison", "spikes"], "failover"),
    ],
)
def test_another_engine_needs_two_witnesses(cause: str, detectors: list[str], action: str) -> None:
    decision = only(stage().update(alert(cause=cause, detectors=detectors, p99=1.0)))
    assert decision.action == action
    assert action != "none" or "needs 2 independent kinds of evidence" in decision.reason


def test_a_change_that_people_told_of_is_a_witness_and_so_is_a_second_instance() -> None:
    lone: dict[str, Any] = {"cause": "engine_change", "detectors": ["build_comparison"], "p99": 1.0}
    marked = stage()
    marked.order(Standing(marks=[START_S - 30]))
    assert only(marked.update(alert(**lone))).evidence == ["build", "mark"]
    on_two = stage(max_share=1.0).update(alert(instances=["i0", "i1"], fleet=2, **lone))
    assert {(d.action, d.target.instance) for d in on_two.decisions} == {
        ("failover", "i0"),
        ("failover", "i1"),
    }


def test_the_second_witness_lets_it_act() -> None:
    made = stage()
    told = only(made.update(alert(cause="quantization_range", detectors=["clipping"], p99=1.0)))
    later = made.update(alert("a", 2, "quantization_range", at_s=5, p99=1.0))
    assert said(later) == [("none", "withdrawn"), ("fallback_precision", "active")]
    assert told.target.instance == "*"
    assert later.decisions[1].target.instance == "bert-qa-0"


def test_the_standby_and_the_fallback_that_people_named_are_told() -> None:
    made = stage(standby="v1", fallback="fp16", max_share=1.0)
    assert only(made.update(alert(cause="quantization_range"))).parameters == {"engine": "fp16"}
    assert only(made.update(alert("b", cause="engine_change", instances=["i9"], fleet=2))).parameters == {
        "engine": "v1"
    }


def test_so_much_of_a_fleet_goes_at_once_and_the_audit_tells_who_waits() -> None:
    many = [f"i{n}" for n in range(5)]
    made = stage(max_share=0.4).update(alert(cause="engine_change", instances=many, fleet=5))
    assert [d.target.instance for d in made.decisions] == ["i0", "i1"]
    assert audited(made) == ["issued", "issued", "held_back", "held_back", "held_back"]
    assert made.audit[-1].why == "2 of 5 instances are away from their engine, 2 may be"


def test_so_many_actions_an_hour_and_then_again_when_the_first_is_an_hour_old() -> None:
    made = stage()
    for n in range(POLICY.actions_per_hour):
        made.update(alert(f"a{n}", at_s=60.0 * n))
        made.update(resolved(f"a{n}", 2, at_s=60.0 * n + 5))
    held = made.update(alert("late", at_s=3000))
    assert held.decisions[-1].status != "active" if held.decisions else True
    assert audited(held)[-1] == "held_back"
    for n in range(1, 25):
        made.update(alert("late", 1 + n, at_s=3000 + 25.0 * n))
    assert [d.action for d in made.active] == ["scale_out"]
    (issued,) = (unix_s(d.issued_at) for d in made.active)
    assert issued == START_S + 3600


def test_a_switch_of_engine_waits_for_its_cooldown() -> None:
    made = stage()
    made.update(alert("a", cause="engine_change", at_s=0))
    made.update(resolved("a", 2, "engine_change", at_s=70))
    again = made.update(alert("b", cause="quantization_range", at_s=80))
    assert said(again) == [("fallback_precision", "active")], "another action has a cooldown of its own"
    made.update(resolved("b", 2, "quantization_range", at_s=150))
    held = made.update(alert("c", cause="quantization_range", at_s=160))
    assert audited(held) == ["held_back"]
    assert "ended here less than 300 s ago" in held.audit[0].why


# What people say.


def test_the_kill_switch_ends_everything_at_once_and_lets_nothing_begin() -> None:
    made = stage()
    made.update(alert("a"))
    made.update(alert("b", cause="engine_change"))
    killed = made.order(Standing(killed="enough (me)", overrides=[override()]))
    assert {(d.status, d.ended_because) for d in killed.decisions} == {
        ("withdrawn", "switched off: enough (me)")
    }
    assert audited(killed) == ["killed", "ended", "ended"]
    assert made.update(alert("c", cause="load", at_s=1)).decisions == []
    resumed = made.order(Standing())
    assert audited(resumed)[0] == "resumed"
    assert {d.action for d in made.active} == {"scale_out"}, "failover has a cooldown"


def test_an_override_stands_above_alerts_until_it_ends() -> None:
    made = stage()
    made.update(alert("a", cause="engine_change"))
    taken = made.order(Standing(overrides=[override("none", until_s=START_S + 400)]))
    assert said(taken) == [("none", "active"), ("failover", "withdrawn")]
    assert taken.decisions[0].reason == "ordered: because (me)"
    assert made.update(alert("b", cause="quantization_range", at_s=5)).decisions == []
    for n in range(2, 90):
        made.update(alert("b", n, "quantization_range", at_s=5.0 * n))
    assert [(d.action, d.order) for d in made.active] == [("fallback_precision", None)]
    (issued,) = (unix_s(d.issued_at) for d in made.active)
    assert issued == START_S + 400


def test_an_order_in_shadow_is_marked_so() -> None:
    assert only(stage("shadow").order(Standing(overrides=[override()]))).mode == "shadow"


def test_a_new_mode_ends_what_was_decided_in_the_old_one() -> None:
    made = stage("enforce")
    made.update(alert())
    again = DecisionStage.restore(SERVICE, rules("shadow"), made.dump())
    after = advance(again, 1)
    assert [(d.mode, d.status) for d in after.decisions] == [("enforce", "withdrawn"), ("shadow", "active")]


# What came of it.


def gone_on(made: DecisionStage, until_s: float, step_s: float = 10.0, **changes: Any) -> list[Decision]:
    out: list[Decision] = []
    for n in range(1, int(until_s / step_s) + 1):
        out += made.update(alert("a", 1 + n, at_s=step_s * n, **changes)).decisions
    return out


def test_what_did_not_help_is_joined_by_the_next_step_and_not_tried_first_again() -> None:
    made = stage(startup_s=60)
    made.update(alert("a", at_s=0))
    out = gone_on(made, 130)
    verdicts = [(d.action, d.outcome.verdict) for d in out if d.outcome]
    assert verdicts[0] == ("scale_out", "useless")
    assert {d.action for d in made.active} == {"scale_out", "shed"}, "capacity is kept beside the next step"
    made.update(resolved("a", 99, at_s=140))
    advance(made, 400)
    again = made.update(alert("b", at_s=500))
    assert {d.action for d in again.decisions} == {"scale_out", "shed"}


def test_a_switch_of_no_use_is_taken_back_before_the_next_step() -> None:
    made = stage()
    made.update(alert("a", cause="engine_change", at_s=0))
    out = gone_on(made, 70, cause="engine_change")
    ended = next(d for d in out if d.status == "withdrawn")
    assert ended.ended_because is not None
    assert ended.ended_because.startswith("of no use: p99 3.0x -> 3.0x")
    assert [d.action for d in made.active] == ["hold_scale_in"]


def test_what_helped_is_confirmed_and_goes_on() -> None:
    made = stage()
    made.update(alert("a", cause="engine_change", at_s=0, p99=5.0))
    out = gone_on(made, 70, cause="engine_change", p99=1.5)
    assert next(d.outcome.verdict for d in out if d.outcome) == "confirmed"
    assert [d.action for d in made.active] == ["failover"]


def test_holding_is_of_no_use_once_requests_suffer() -> None:
    made = stage()
    made.update(alert("a", cause="host_starvation", at_s=0))
    gone_on(made, 70, cause="host_starvation", severity="critical")
    assert [d.action for d in made.active] == ["scale_out"]


@pytest.mark.parametrize("mode", ["shadow", "advise"])
def test_where_nobody_acts_nothing_is_judged(mode: str) -> None:
    made = stage(mode, startup_s=60)
    made.update(alert("a", at_s=0))
    assert not [d for d in gone_on(made, 300) if d.outcome]
    assert [d.action for d in made.active] == ["scale_out"]


def test_when_nothing_helps_people_are_told() -> None:
    made = stage()
    made.update(alert("a", cause="quantization_range", at_s=0))
    gone_on(made, 200, cause="quantization_range")
    assert [(d.action, "nothing that was tried helped" in d.reason) for d in made.active] == [("none", True)]


# Our own doing.


def switched(at_s: float) -> Any:
    """The other build serves: told as a fact, on the first execution."""
    return alert("s", 1, "engine_change", at_s=at_s, kind="engine_regression", severity="info", p99=1.0)


def test_a_switch_that_was_obeyed_stays_though_its_alert_ends_and_then_tries_the_way_back() -> None:
    made = stage()
    made.update(alert("a", cause="quantization_range", at_s=0))
    made.update(switched(2))
    made.update(resolved("a", 2, "quantization_range", at_s=5))
    hold_s = POLICY.actions["fallback_precision"].hold_s
    assert said(advance(made, hold_s))[-1] == ("fallback_precision", "active"), "renewed without an alert"
    back = advance(made, hold_s + 6)
    assert said(back)[-1] == ("restore", "active")
    assert back.decisions[-1].alerts == ["a"]
    assert said(advance(made, hold_s + 200)) == [("restore", "withdrawn")]
    assert made.active == []


def test_a_way_back_that_fails_is_tried_later_the_next_time() -> None:
    made = stage()
    made.update(alert("a", cause="quantization_range", at_s=0))
    made.update(switched(2))
    made.update(resolved("a", 2, "quantization_range", at_s=5))
    hold_s = POLICY.actions["fallback_precision"].hold_s
    advance(made, hold_s + 6)
    relapse = made.update(alert("b", cause="quantization_range", at_s=hold_s + 10))
    assert said(relapse) == [("restore", "withdrawn"), ("fallback_precision", "active")]
    lease = only(Said(made.active, []))
    made.update(alert("t", 1, "engine_change", at_s=hold_s + 12, kind="engine_regression", severity="info"))
    made.update(resolved("b", 2, "quantization_range", at_s=hold_s + 15))
    advance(made, hold_s + 15 + 2 * hold_s - 1)
    assert [d.id for d in made.active] == [lease.id]


def test_the_build_that_we_switched_to_is_no_regression() -> None:
    made = stage()
    made.update(alert("a", cause="quantization_range", at_s=0))
    own = made.update(alert("s", 1, "engine_change", at_s=3, kind="engine_regression"))
    assert (own.decisions, audited(own)) == ([], ["ignored"])


def test_a_build_that_people_told_of_is_one() -> None:
    made = stage(max_share=1.0)
    made.update(alert("a", cause="load", at_s=0))
    made.order(Standing(marks=[START_S + 2]))
    told = made.update(alert("s", 1, "engine_change", at_s=4, kind="engine_regression"))
    assert said(told) == [("failover", "active")]


def test_load_that_shifts_right_after_we_acted_is_believed_once_it_lasts() -> None:
    made = stage()
    made.update(alert("a", cause="engine_change", at_s=0))
    shift = made.update(alert("l", 1, "load", at_s=10, kind="load"))
    assert (shift.decisions, audited(shift)) == ([], ["ignored"])
    for n in range(2, 15):
        made.update(alert("a", n, "engine_change", at_s=10.0 * n, p99=1.2))
        made.update(alert("l", n, "load", at_s=10.0 * n, kind="load", began_s=10))
    scale = next(d for d in made.active if d.action == "scale_out")
    assert unix_s(scale.issued_at) == START_S + POLICY.reaction_s


def test_in_shadow_nothing_is_our_own_doing() -> None:
    made = stage("shadow")
    made.update(alert("a", cause="quantization_range", at_s=0))
    assert made.update(alert("l", 1, "load", at_s=3, kind="load")).decisions


def test_the_audit_tells_what_why_on_which_evidence_and_by_which_versions() -> None:
    made = DecisionStage(SERVICE, rules("advise", software="1.2.3"))
    (entry,) = made.update(alert("a", 1, "quantization_range")).audit
    assert (entry.id, entry.what, entry.mode) == (f"{SERVICE}/1", "issued", "advise")
    assert entry.alerts == {"a": 1}
    assert entry.evidence == ["range", "reference", "requests"]
    assert (entry.policy, entry.software, entry.epoch) == ("default@2", "1.2.3", 1)


def test_audit_and_decisions_are_valid_by_the_shipped_schemas() -> None:
    made = stage(max_share=0.25)
    many = [f"i{n}" for n in range(4)]
    steps = [
        made.update(alert("a", cause="quantization_range", instances=many, fleet=4)),
        made.update(switched(2)),
        made.update(alert("l", 1, "engine_change", at_s=3, kind="engine_regression")),
        made.order(Standing(overrides=[override("shed", instance="i3")])),
        advance(made, 100),
        made.order(Standing(killed="enough (me)")),
        made.order(Standing()),
    ]
    entries = [entry for step in steps for entry in step.audit]
    assert {entry.what for entry in entries} == set(EVENTS) - {"ignored"}
    for name, records in (("audit", entries), ("decision", [d for step in steps for d in step.decisions])):
        validator = jsonschema.Draft202012Validator(load(name), format_checker=jsonschema.FormatChecker())
        for record in records:
            validator.validate(msgspec.json.decode(encode_json(record)))


def test_the_build_that_we_switched_to_is_no_regression_until_it_has_gone_again() -> None:
    made = stage()
    made.update(alert("a", cause="quantization_range", at_s=0))
    regression: dict[str, Any] = {"cause": "engine_change", "kind": "engine_regression", "began_s": 2}
    made.update(alert("s", 1, at_s=3, **regression))
    made.update(resolved("a", 2, "quantization_range", at_s=5))
    hold_s = POLICY.actions["fallback_precision"].hold_s
    for n in range(2, int(hold_s / 100) + 2):
        made.update(alert("s", n, at_s=100.0 * n, **regression))
    assert [d.action for d in made.active] == ["restore"]
    made.update(resolved("s", 99, at_s=hold_s + 210, **regression))
    advance(made, hold_s + 500)
    assert made.active == []


def test_replicas_that_came_are_what_was_expected_of_them() -> None:
    made = stage(startup_s=60)
    made.update(alert("a", at_s=0, fleet=4))
    out = gone_on(made, 130, fleet=6)
    assert [(d.outcome.verdict, d.outcome.said) for d in out if d.outcome][:1] == [
        ("confirmed", "4 -> 6 instances serve")
    ]
    assert [d.action for d in made.active] == ["scale_out"]
