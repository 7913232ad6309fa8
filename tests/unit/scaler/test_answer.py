"""What an autoscaler is told: a floor that is known, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaler_records import decision, load

from layerwatch.scaler.answer import Known, Said, Unknown, answer
from layerwatch.schemas.decisions import Target
from layerwatch.schemas.times import rfc3339

NOW_S = 1_795_341_600.0
STALE_S = 60.0
ENFORCE = Said("enforce")


#: Two instances, then three: what was added once the decision was made.
COUNTS = [(NOW_S - 600, 2), (NOW_S - 300, 2), (NOW_S - 60, 3), (NOW_S - 5, 3)]


def _told(
    said: Said = ENFORCE, *decisions: Any, age_s: float = 5.0, counts: Any = COUNTS, **changes: Any
) -> Known | Unknown:
    return answer(load(NOW_S - age_s, **changes), decisions, counts, said, NOW_S, STALE_S)


def _replicas(said: Said = ENFORCE, *decisions: Any, **changes: Any) -> int:
    told = _told(said, *decisions, **changes)
    assert isinstance(told, Known)
    assert told.enforced == (told.replicas > 0)
    return told.replicas


def test_what_the_load_needs_is_asked_for() -> None:
    assert _replicas() == 5


def test_nothing_known_and_old_news_are_no_zero() -> None:
    assert isinstance(answer(None, [], [], ENFORCE, NOW_S, STALE_S), Unknown)
    assert isinstance(_told(age_s=61.0), Unknown)
    assert isinstance(_told(Said("enforce", hands_off="killed"), age_s=61.0), Unknown)
    assert isinstance(_told(Said("shadow"), age_s=61.0), Unknown)


@pytest.mark.parametrize("said", [Said("shadow"), Said("advise"), Said("enforce", hands_off="killed: drill")])
def test_shadow_advise_and_killed_are_neutral(said: Said) -> None:
    assert _replicas(said, decision(NOW_S)) == 0


@pytest.mark.parametrize(
    ("changes", "replicas"),
    [
        ({}, 5),  # the load needs more than one more
        ({"parameters": {"replicas": 7}}, 7),
        ({"parameters": {"replicas": 4}}, 5),
        ({"parameters": {"replicas": "many"}}, 5),
        ({"parameters": {"replicas": 7}, "status": "withdrawn"}, 5),
        ({"parameters": {"replicas": 7}, "mode": "shadow"}, 5),
        ({"parameters": {"replicas": 7}, "action": "shed"}, 5),
        ({"parameters": {"replicas": 7}, "target": Target("s", "s-0", "capacity")}, 5),
        ({"parameters": {"replicas": 7}, "target": Target("s", "*", "routing"), "action": "failover"}, 5),
    ],
)
def test_a_decision_on_the_services_capacity_raises_the_floor(changes: dict[str, Any], replicas: int) -> None:
    assert _replicas(ENFORCE, decision(NOW_S - 10, **changes)) == replicas


def test_a_lease_that_has_run_out_asks_for_nothing() -> None:
    assert _replicas(ENFORCE, decision(NOW_S - 301, parameters={"replicas": 7})) == 5


def test_without_a_number_a_decision_counts_over_the_instances_there_were_when_it_was_made() -> None:
    assert _replicas(replicas=None) == 0
    made_s = NOW_S - 200
    assert _replicas(ENFORCE, decision(made_s), replicas=None) == 3, (
        "2 and one more, though 3 are there by now"
    )
    assert _replicas(ENFORCE, decision(made_s, action="hold_scale_in"), replicas=None) == 2
    long_ago = decision(NOW_S - 3600, expires_at=rfc3339(NOW_S + 60))
    assert _replicas(ENFORCE, long_ago, replicas=None) == 2, (
        "nobody remembers: what was added asks for no more"
    )
    assert _replicas(ENFORCE, long_ago, replicas=None, counts=[]) == 3


@given(st.integers(1, 50), st.integers(0, 20), st.integers(1, 40), st.integers(1, 60))
def test_limits_hold_whatever_asks(needed: int, least: int, most: int, wished: int) -> None:
    said = replace(ENFORCE, least=least, most=max(least, most))
    told = _replicas(said, decision(NOW_S, parameters={"replicas": wished}), replicas=needed)
    assert max(least, 1) <= told <= max(least, most, 1)
