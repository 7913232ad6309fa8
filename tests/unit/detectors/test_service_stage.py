"""Signals of instances to alerts of their service, in whatever order they come and however often."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service_signals import T0_S, check_revisions, episode, signal

from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.signals import Episode, Signal

FOREVER_S = float("inf")
KINDS = {
    "gpu_contention": "layer_latency",
    "memory_bandwidth": "layer_latency",
    "host_starvation": "host_gap",
}


@dataclass
class Life:
    """An instance as the first stage would tell of it: one episode at a time, told again while it lasts."""

    name: str
    sequence: int = 0
    count: int = 0
    open: Episode | None = None
    told: list[Signal] = field(default_factory=list)

    def step(self, act: str, cause: str) -> Signal:
        self.sequence += 1
        now_s = T0_S + self.sequence
        shown: list[Episode] = []
        if act == "vanish":
            self.open = None
        if act == "close" and self.open:
            shown.append(msgspec.structs.replace(self.open, updated_s=now_s, closed_s=now_s))
            self.open = None
        if act in ("open", "flash") and self.open is None:
            self.count += 1
            self.open = episode(f"{self.name}{self.count}", cause, self.sequence, kind=KINDS[cause])
        if act == "flash" and self.open:
            shown.append(msgspec.structs.replace(self.open, updated_s=now_s, closed_s=now_s))
            self.open = None
        if act == "worse" and self.open:
            self.open = msgspec.structs.replace(self.open, severity="critical")
        if self.open:
            self.open = msgspec.structs.replace(self.open, updated_s=now_s)
            shown.append(self.open)
        made = signal(self.name, self.sequence, shown)
        self.told.append(made)
        return made


ACTS = ["open", "open", "go on", "go on", "worse", "close", "vanish", "flash"]
steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(ACTS),
        st.sampled_from(sorted(KINDS)),
        st.integers(0, 2),  # how often an older message comes again
    ),
    max_size=40,
)


def played(
    history: list[tuple[str, str, str, int]], restart_each: int = 0
) -> tuple[list[Alert], ServiceStage, dict[str, Life]]:
    stage, alerts = ServiceStage("s", FOREVER_S), []
    lives: dict[str, Life] = {}
    for i, (name, act, cause, again) in enumerate(history):
        life = lives.setdefault(name, Life(name))
        alerts += stage.update(life.step(act, cause), 0.0)
        for _ in range(again):
            state = stage.dump()
            assert stage.update(life.told[(7 * i) % len(life.told)], 0.0) == []
            assert stage.dump() == state
        if restart_each and i % restart_each == 0:
            stage = ServiceStage.restore("s", FOREVER_S, stage.dump())
    return alerts, stage, lives


@settings(max_examples=150, deadline=None)
@given(steps)
def test_alerts_are_told_in_order_and_end_with_their_episodes(
    history: list[tuple[str, str, str, int]],
) -> None:
    alerts, stage, lives = played(history)
    last = check_revisions(alerts)
    firing = {alert.id for alert in last.values() if alert.status == "firing"}
    assert firing == {alert.id for alert in stage.firing}
    showing = {s.episode.id for a in stage.firing for s in a.showing.values() if s.episode.closed_s is None}
    assert showing == {life.open.id for life in lives.values() if life.open}
    for life in lives.values():
        life.open = None
        alerts += stage.update(life.step("go on", "gpu_contention"), 0.0)
    assert {alert.status for alert in check_revisions(alerts).values()} <= {"resolved"}
    assert stage.firing == []


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(1, 3))
def test_restarts_in_between_change_nothing(history: list[tuple[str, str, str, int]], each: int) -> None:
    assert played(history, each)[0] == played(history)[0]


def test_the_same_trouble_on_two_instances_is_one_alert() -> None:
    stage = ServiceStage("s", FOREVER_S)
    alerts = stage.update(signal("a", 1, [episode("e1", at_s=1)]), 0.0)
    alerts += stage.update(signal("b", 2, [episode("e2", at_s=2)]), 0.0)
    assert [(a.revision, a.instances, a.scope) for a in alerts] == [
        (1, ["a"], "instance"),
        (2, ["a", "b"], "service"),
    ]
    assert len({a.id for a in alerts}) == 1
    assert alerts[1].impact.executions == 20


@pytest.mark.parametrize("other", [{"cause": "memory_bandwidth"}, {"kind": "host_gap"}])
def test_other_trouble_is_another_alert(other: dict[str, str]) -> None:
    stage = ServiceStage("s", FOREVER_S)
    alerts = stage.update(signal("a", 1, [episode("e1", at_s=1)]), 0.0)
    alerts += stage.update(signal("b", 2, [episode("e2", at_s=2, **other)]), 0.0)
    assert len({a.id for a in alerts}) == 2


@pytest.mark.parametrize(
    ("where", "scope"),
    [({"host": "h", "gpu": "g"}, "gpu"), ({"host": "h"}, "host"), ({"gpu": "g"}, "service"), ({}, "service")],
)
def test_what_the_instances_share_is_the_scope(where: dict[str, str], scope: str) -> None:
    stage = ServiceStage("s", FOREVER_S)
    stage.update(signal("a", 1, [episode("e1", at_s=1)], **where), 0.0)
    assert stage.update(signal("b", 2, [episode("e2", at_s=2)], **where), 0.0)[0].scope == scope


def test_an_alert_resolves_when_its_last_instance_is_well() -> None:
    stage = ServiceStage("s", FOREVER_S)
    stage.update(signal("a", 1, [episode("e1", at_s=1)]), 0.0)
    stage.update(signal("b", 2, [episode("e2", at_s=2)]), 0.0)
    assert all(a.status == "firing" for a in stage.update(signal("a", 3), 0.0))
    done = stage.update(signal("b", 4), 0.0)
    assert [a.status for a in done] == ["resolved"]
    assert done[0].closed_at == done[0].updated_at


def test_what_opens_and_closes_within_a_message_is_told_as_both() -> None:
    over = episode("e", at_s=1, updated_s=T0_S + 3, closed_s=T0_S + 3)
    alerts = ServiceStage("s", FOREVER_S).update(signal("a", 3, [over]), 0.0)
    assert [(a.revision, a.status) for a in alerts] == [(1, "firing"), (2, "resolved")]
    check_revisions(alerts)


def test_what_has_not_changed_is_said_again_each_five_seconds() -> None:
    stage, told = ServiceStage("s", FOREVER_S), []
    for i in range(1, 13):
        told += stage.update(signal("a", i, [episode("e", at_s=1, updated_s=T0_S + i)]), 0.0)
    assert [a.revision for a in told] == [1, 2, 3]


def test_the_id_depends_on_what_happened_and_not_on_when_it_was_processed() -> None:
    ids = {
        ServiceStage("s", FOREVER_S).update(signal("a", n, [episode("e", at_s=1)]), 5.0 * n)[0].id
        for n in (1, 2, 9)
    }
    assert len(ids) == 1


def test_silence_opens_after_its_time_and_ends_with_the_next_word() -> None:
    stage = ServiceStage("s", silence_s=15)
    stage.update(signal("a", 1), 100.0)
    assert stage.tick(115.0) == []
    alerts = stage.tick(116.0)
    assert [(a.kind, a.instances, a.status) for a in alerts] == [("silence", ["a"], "firing")]
    assert stage.tick(200.0) == []
    alerts += stage.update(signal("a", 120), 220.0)
    assert alerts[-1].status == "resolved"
    check_revisions(alerts)
    assert stage.tick(230.0) == []
    assert len(stage.tick(236.0)) == 1  # and may fall silent again


def test_a_repeat_is_a_sign_of_life_to_come_but_not_a_word() -> None:
    stage = ServiceStage("s", silence_s=15)
    stage.update(signal("a", 1), 100.0)
    opened = stage.tick(120.0)
    assert opened
    assert stage.update(signal("a", 1), 121.0) == []
    assert len(stage.firing) == 1


def test_who_said_goodbye_is_not_silent_and_forgotten_later() -> None:
    stage = ServiceStage("s", silence_s=15)
    stage.update(signal("a", 1, state="leaving"), 0.0)
    assert stage.tick(100.0) == []
    assert stage.clock_s > 0
    assert stage.tick(601.0) == []
    assert stage.clock_s == 0


def test_a_restart_starts_the_wait_anew() -> None:
    stage = ServiceStage("s", silence_s=15)
    stage.update(signal("a", 1), 100.0)
    back = ServiceStage.restore("s", 15, stage.dump())
    assert back.tick(5000.0) == []
    assert len(back.tick(5016.0)) == 1


def test_a_restart_keeps_a_silence_open_once() -> None:
    stage = ServiceStage("s", silence_s=15)
    stage.update(signal("a", 1), 0.0)
    alerts = stage.tick(16.0)
    back = ServiceStage.restore("s", 15, stage.dump())
    assert back.tick(0.0) == back.tick(99.0) == []
    alerts += back.update(signal("a", 2), 100.0)
    assert alerts[-1].status == "resolved"
    check_revisions(alerts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from(["speak", "speak", "wait", "leave"]), st.integers(1, 30)
        ),
        max_size=25,
    )
)
def test_silences_are_told_in_order_whatever_happens(history: list[tuple[str, str, int]]) -> None:
    stage, now_s, alerts = ServiceStage("s", silence_s=15), 0.0, []
    sequences = {"a": 0, "b": 0}
    for name, act, seconds in history:
        now_s += seconds
        if act != "wait":
            sequences[name] += 1
            state = "leaving" if act == "leave" else "serving"
            alerts += stage.update(signal(name, sequences[name], time_s=T0_S + now_s, state=state), now_s)
        alerts += stage.tick(now_s)
    check_revisions(alerts)
    for name, sequence in sequences.items():
        alerts += stage.update(signal(name, sequence + 1, time_s=T0_S + now_s), now_s)
    assert all(alert.status == "resolved" for alert in check_revisions(alerts).values())


def test_the_estimated_onset_stays_when_its_episode_is_followed_by_another() -> None:
    stage = ServiceStage("s", FOREVER_S)
    alerts = stage.update(signal("a", 1, [episode("e1", at_s=1)]), 0.0)
    alerts += stage.update(signal("b", 2, [episode("e2", at_s=2)]), 0.0)
    alerts += stage.update(signal("a", 3), 0.0)
    alerts += stage.update(signal("a", 9, [episode("e3", at_s=9)]), 0.0)
    assert {a.started_at for a in alerts} == {alerts[0].started_at}
    check_revisions(alerts)


def test_an_instance_whose_clock_was_set_back_does_not_take_the_alert_with_it() -> None:
    stage = ServiceStage("s", FOREVER_S)
    alerts = stage.update(signal("a", 50, [episode("e", at_s=50)]), 0.0)
    alerts += stage.update(signal("a", 0, boot_ms=2, time_s=T0_S - 100), 0.0)
    assert alerts[-1].status == "resolved"
    check_revisions(alerts)


def test_an_episode_without_a_cause_is_one_of_unknown_cause() -> None:
    alerts = ServiceStage("s", FOREVER_S).update(signal("a", 1, [episode("e", at_s=1, causes=[])]), 0.0)
    assert [cause.cause for cause in alerts[0].causes] == ["unknown"]


def test_an_alert_that_ends_with_its_build_names_that_build() -> None:
    stage = ServiceStage("s", silence_s=15.0)
    stage.update(signal("a", 0, [episode()], engine="sha256:old"), now_s=0.0)
    closed = episode(closed_s=T0_S + 1, updated_s=T0_S + 1)
    (alert,) = stage.update(signal("a", 1, [closed], engine="sha256:new"), now_s=1.0)
    assert (alert.status, alert.engine) == ("resolved", "sha256:old")
