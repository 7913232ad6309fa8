"""What becomes of alerts: one incident, one first notice, one end."""

from __future__ import annotations

from typing import Any

import msgspec
from history_records import START_S, alert_json, decision_json
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.notify.incident import Notice, ServiceState
from layerwatch.notify.life import Rules, advance, hear, note
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.decisions import DECISION_READER

RULES = Rules()
SERVICE = "bert-qa"


def nobody(alert: Alert, at_s: float) -> bool:
    return False


def cause(name: str) -> list[dict[str, Any]]:
    return [{"cause": name, "confidence": 0.9, "evidence": "seen"}]


class Told:
    """A service's incidents, with seconds counted from START_S."""

    def __init__(self, rules: Rules = RULES, silenced: Any = nobody) -> None:
        self.state, self.rules, self.silenced = ServiceState(), rules, silenced
        self.notices: list[Notice] = []

    def hear(self, at_s: float, id: str = "a", revision: int = 1, **changes: Any) -> Told:
        alert = ALERT_READER.decode(alert_json(id, revision, START_S + at_s, **changes))
        self.state, made = hear(self.state, alert, START_S + at_s, self.rules, self.silenced)
        self.notices += made
        return self

    def decide(self, at_s: float, **changes: Any) -> Told:
        decision = DECISION_READER.decode(decision_json(issued_s=START_S + at_s, **changes))
        self.state = note(self.state, decision, START_S + at_s)
        return self

    def until(self, at_s: float) -> Told:
        self.state, made = advance(self.state, SERVICE, START_S + at_s, self.rules, self.silenced)
        self.notices += made
        return self

    @property
    def events(self) -> list[tuple[float, str]]:
        return [(notice.made_s - START_S, notice.event) for notice in self.notices]


def test_an_alert_is_told_with_its_decision_and_its_end_after_the_hold() -> None:
    told = Told().hear(0).decide(0.2).hear(10, revision=2, status="resolved").until(1000)
    assert told.events == [(5, "firing"), (310, "resolved")]
    assert [decision.action for decision in told.notices[0].decisions] == ["scale_out"]
    assert told.notices[1].quiet_since_s == START_S + 10
    assert told.notices[0].incident == told.notices[1].incident
    assert told.state.incidents == {}


def test_however_many_alerts_and_instances_show_it_one_is_told() -> None:
    told = Told()
    for number in range(40):
        told.hear(number / 10, id=f"a{number}", instances=[f"bert-qa-{number}"])
    told.until(60)
    assert told.events == [(5, "firing")]
    assert len({name for alert in told.notices[0].alerts for name in alert.instances}) >= 30


def test_an_alert_that_is_no_longer_kept_is_not_taken_for_a_new_one() -> None:
    told = Told()
    for number in range(40):
        told.hear(number, id=f"a{number}").hear(number + 0.5, id=f"a{number}", revision=2, status="resolved")
    (incident,) = told.state.incidents.values()
    assert "a0" not in incident.alerts
    told.hear(50, id="a0").until(1000)
    assert [event for _, event in told.events] == ["firing", "resolved"]
    assert told.notices[1].flaps == 39


def test_what_comes_and_goes_is_one_page() -> None:
    told = Told()
    for number in range(10):
        told.hear(200 * number, id=f"a{number}")
        told.hear(200 * number + 5, id=f"a{number}", revision=2, status="resolved")
    told.until(5000)
    assert told.events == [(5, "firing"), (2105, "resolved")]
    assert told.notices[1].flaps == 9


def test_after_the_hold_it_is_another_incident() -> None:
    told = Told().hear(0).hear(5, revision=2, status="resolved").hear(400, id="b").until(500)
    assert told.events == [(5, "firing"), (305, "resolved"), (405, "firing")]
    assert told.notices[2].incident != told.notices[0].incident


def test_another_trouble_of_the_same_service_is_another_incident() -> None:
    told = Told().hear(0).hear(1, id="b", causes=cause("host_starvation")).until(60)
    assert sorted(notice.trouble for notice in told.notices) == ["gpu_contention", "host_starvation"]


def test_info_is_for_dashboards_until_it_becomes_a_warning() -> None:
    told = Told().hear(0, severity="info").until(50)
    assert told.events == []
    told.hear(50, revision=2).until(100)
    assert told.events == [(55, "firing")]


def test_what_gets_worse_is_told_at_once_and_other_news_once_a_minute() -> None:
    told = Told().hear(0).until(5)
    told.hear(20, id="b", instances=["bert-qa-1"]).until(30)
    assert told.events == [(5, "firing")]
    told.hear(40, revision=2, severity="critical").until(41)
    assert told.events[1:] == [(40, "updated")]
    assert told.notices[1].severity == "critical"
    told.hear(45, id="b", revision=2, instances=["bert-qa-1", "bert-qa-2"]).until(200)
    assert told.events[2:] == [(100, "updated")]
    told.hear(201, revision=3, severity="critical").until(400)
    assert len(told.notices) == 3, "nothing new, nothing told"


def test_a_page_that_is_due_is_told_although_it_was_over_before() -> None:
    told = Told().hear(0).hear(1, revision=2, status="resolved").until(5)
    assert told.events == [(5, "firing")]
    told = Told().hear(0).until(5).hear(20, revision=2, severity="critical")
    told.hear(20.5, revision=3, severity="critical", status="resolved").until(21)
    assert told.events == [(5, "firing"), (20, "updated")]


def test_a_silence_holds_the_page_until_it_ends_and_a_trouble_that_is_over_by_then_is_not_told() -> None:
    def until_100(alert: Alert, at_s: float) -> bool:
        return at_s < START_S + 100

    told = Told(silenced=until_100).hear(0).until(50).until(99)
    assert told.events == []
    assert told.until(101).events == [(101, "firing")]
    told = Told(silenced=until_100).hear(0).hear(20, revision=2, status="resolved").until(101).until(1000)
    assert told.events == []


def test_a_silence_after_the_page_holds_news_but_not_the_end() -> None:
    def from_10(alert: Alert, at_s: float) -> bool:
        return at_s >= START_S + 10

    told = Told(silenced=from_10).hear(0).until(5).hear(70, revision=2, severity="critical").until(200)
    assert told.events == [(5, "firing")]
    told.hear(201, revision=3, status="resolved").until(1000)
    assert told.events == [(5, "firing"), (501, "resolved")]


def test_what_was_over_before_the_first_start_is_not_told_and_what_lasts_is() -> None:
    rules = Rules(since_s=START_S + 1000)
    over = Told(rules).hear(0).hear(10, revision=2, status="resolved").until(1200).until(5000)
    assert over.events == []
    assert Told(rules).hear(0).until(999).until(1003).events == [(1003, "firing")]


def test_repeats_and_old_revisions_change_nothing_even_after_the_end() -> None:
    told = Told().hear(0).hear(2, revision=2, severity="critical").hear(3)
    told.hear(10, revision=3, status="resolved")
    told.until(400).hear(401).hear(402, revision=2, severity="critical").until(900)
    assert told.events == [(5, "firing"), (310, "resolved")]
    assert told.notices[0].severity == "critical"


HISTORY = st.lists(
    st.tuples(
        st.integers(0, 400),  # until the next record (s)
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["firing", "firing", "resolved"]),
        st.sampled_from(["info", "warning", "critical"]),
        st.sampled_from(["gpu_contention", "load"]),
    ),
    max_size=30,
)


def played(history: list[Any], tick_s: int | None, restart: int | None = None) -> list[Notice]:
    """The notices of a history, with the clock looked at every so often, or only when something is read."""
    told, at_s, revisions = Told(), 0, dict.fromkeys("abcd", 0)
    for number, (pause_s, id, status, severity, name) in enumerate(history):
        for moment_s in range(at_s, at_s + pause_s, tick_s or 10**6):
            if tick_s:
                told.until(moment_s)
        at_s += pause_s
        revisions[id] += 1
        told.hear(at_s, id, revisions[id], status=status, severity=severity, causes=cause(name))
        if number == restart:
            told.state = msgspec.json.decode(msgspec.json.encode(told.state), type=ServiceState)
    return told.until(at_s + 10_000).notices


@given(HISTORY, st.integers(1, 40), st.integers(0, 30))
def test_neither_the_clock_nor_a_restart_changes_what_is_told(
    history: list[Any], tick_s: int, restart: int
) -> None:
    assert played(history, tick_s, restart) == played(history, None)


@given(HISTORY)
def test_each_incident_begins_once_ends_once_and_pages_are_a_hold_apart(history: list[Any]) -> None:
    notices = played(history, None)
    lives: dict[str, list[Notice]] = {}
    for notice in notices:
        lives.setdefault(notice.incident, []).append(notice)
    for life in lives.values():
        assert [notice.number for notice in life] == list(range(1, len(life) + 1))
        events = [notice.event for notice in life]
        assert events[0] == "firing"
        assert set(events[1:-1]) <= {"updated"}
        assert events.count("resolved") == (life[-1].alerts[0].status == "resolved")
    for trouble in ("gpu_contention", "load"):
        ends = [n.quiet_since_s or 0.0 for n in notices if n.trouble == trouble and n.event == "resolved"]
        begins = [n.opened_s for n in notices if n.trouble == trouble and n.event == "firing"]
        gaps = [begin - end for end, begin in zip(ends, begins[1:], strict=False)]
        assert all(gap >= RULES.hold_s for gap in gaps)
