"""The closed loop: fault in, decision, obeyed, recovery verified, the way back; and what it is without obedience."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import pytest
from deciding import POLICY
from detection import models

from layerwatch.detectors.deciding.state import Rules
from layerwatch.evaluation.loop import world
from layerwatch.evaluation.loop.obedience import Obedience
from layerwatch.evaluation.loop.page import page_of, rows_of
from layerwatch.evaluation.loop.watching import InProcess
from layerwatch.evaluation.loop.world import START_S, Story, World
from layerwatch.schemas.decisions import Decision, Target
from layerwatch.schemas.times import rfc3339, unix_s


@lru_cache(maxsize=2)
def story(closed: bool) -> Story:
    rules = Rules(POLICY, "enforce", fallback="fp16", startup_s=world.STARTUP_S, max_share=1.0)
    return World(InProcess(rules, models(), world.ADDED), closed=closed).run()


def last() -> list[Decision]:
    return list({decision.id: decision for decision in story(True).decisions}.values())


def test_each_fault_leads_to_its_action_that_is_confirmed_and_to_the_way_back() -> None:
    told = [(d.action, d.outcome.verdict if d.outcome else "") for d in last()]
    assert told == [
        ("scale_out", "confirmed"),
        *[("fallback_precision", "confirmed")] * world.REPLICAS,
        *[("restore", "")] * world.REPLICAS,
    ]
    ended = {d.ended_because for d in last() if d.action == "restore"}
    assert ended == {"the way back holds"}


def test_actions_come_within_seconds_of_the_fault_and_end_with_it() -> None:
    for action, (from_s, _) in (("scale_out", world.CROWDED_S), ("fallback_precision", world.DRIFTED_S)):
        first = next(d for d in last() if d.action == action)
        assert 0 < unix_s(first.issued_at) - START_S - from_s < 5
    scale = next(d for d in last() if d.action == "scale_out")
    assert unix_s(scale.expires_at) - START_S - world.CROWDED_S[1] < 15


def test_it_helps_against_the_same_requests_without_obedience() -> None:
    opened, closed = story(False), story(True)
    assert opened.requests == closed.requests
    assert closed.late < opened.late / 2
    assert closed.wrong < opened.wrong / 20
    worst = max(second.p99_ms for second in closed.seconds[240:360])
    assert worst < 200, "the queue is gone while the other process is still there"
    assert max(second.p99_ms for second in opened.seconds[240:360]) > 2000


def test_all_is_as_before_in_the_end() -> None:
    end = story(True).seconds[-1]
    assert (end.replicas, end.on_fp16, end.wrong) == (world.REPLICAS, 0, 0.0)


def test_where_nobody_obeys_it_says_that_nothing_helped() -> None:
    assert any(
        d.action == "none" and "nothing that was tried helped" in d.reason for d in story(False).decisions
    )
    assert {second.replicas for second in story(False).seconds} == {world.REPLICAS}


def test_the_page_shows_both_and_loads_nothing() -> None:
    page = page_of(story(False), story(True))
    assert page.count("<path") == 8
    assert "fallback_precision x4 confirmed" in page
    assert "http" not in page
    for row in rows_of(story(False), story(True)):
        assert f"<td>{row[2]}</td>" in page


@pytest.mark.parametrize(
    ("changes", "obeyed"),
    [
        ({}, True),
        ({"mode": "shadow"}, False),
        ({"mode": "advise"}, False),
        ({"status": "withdrawn"}, False),
        ({"expires_at": rfc3339(START_S)}, False),
    ],
)
def test_who_obeys_knows_leases_and_nothing_else(changes: dict[str, str], obeyed: bool) -> None:
    decision = msgspec.structs.replace(
        Decision(
            id="d",
            epoch=1,
            revision=1,
            status="active",
            target=Target("s", "*", "routing"),
            action="fallback_precision",
            mode="enforce",
            parameters={"engine": "fp16"},
            reason="",
            alerts=[],
            confidence=1.0,
            expected="",
            policy="p@1",
            issued_at=rfc3339(START_S),
            expires_at=rfc3339(START_S + 300),
        ),
        **changes,
    )
    consumer = Obedience()
    consumer.hear([decision])
    assert consumer.engine_of("i", START_S + 1) == ("fp16" if obeyed else None)
    consumer.hear([msgspec.structs.replace(decision, revision=2, status="expired"), decision])
    assert consumer.engine_of("i", START_S + 1) is None, "an older revision changes nothing"
