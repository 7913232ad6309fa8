"""Which executions are sampled: the right share of all, and rare shapes get theirs."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.probe.sampler import Sampler


def _sampled(shapes: list[str], rate: float, *, asked: bool = False) -> Counter[str]:
    """Which are; `asked` about each of them, else only about those that are not settled beforehand."""
    sampler, found = Sampler(), Counter[str]()
    for shape in shapes:
        stratum = sampler.stratum(shape)
        if not asked and stratum.free > 0 and stratum.version == sampler.version:
            stratum.free -= 1
            stratum.passed += 1
        else:
            found[shape] += sampler.is_due(stratum, rate)
    return found


def _mix(weights: dict[str, int], count: int) -> list[str]:
    return random.Random(1).choices(list(weights), list(weights.values()), k=count)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_the_share_of_all_executions_is_the_rate(rate: float) -> None:
    shapes = _mix({"a": 900, "b": 90, "c": 9, "d": 1}, 100_000)
    assert sum(_sampled(shapes, rate).values()) == pytest.approx(rate * 100_000, rel=0.1)


def test_a_rare_shape_gets_more_than_its_share_and_a_frequent_one_keeps_most() -> None:
    shapes = _mix({"frequent": 990, "rare": 10}, 50_000)
    got, seen = _sampled(shapes, 0.01), Counter(shapes)
    assert got["rare"] > 3 * 0.01 * seen["rare"]
    assert got["frequent"] > 0.8 * 0.01 * seen["frequent"]


@given(st.lists(st.sampled_from("abcdef"), max_size=300))
def test_at_rate_one_all_are_sampled_and_at_zero_none(shapes: list[str]) -> None:
    assert sum(_sampled(shapes, 1.0).values()) == len(shapes)
    assert sum(_sampled(shapes, 0.0).values()) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from("aaaaaaaabbbc"), min_size=500, max_size=3000),
    st.floats(0.001, 0.9),
)
def test_what_is_settled_beforehand_is_as_if_each_had_been_asked_about(
    shapes: list[str], rate: float
) -> None:
    settled, asked = _sampled(shapes, rate), _sampled(shapes, rate, asked=True)
    for shape in "abc":
        assert abs(settled[shape] - asked[shape]) <= 2 + 0.1 * asked[shape]


def test_few_executions_are_asked_about_where_few_are_sampled() -> None:
    sampler, asked = Sampler(), 0
    stratum = sampler.stratum("a")
    for _ in range(20_000):
        if stratum.free > 0:
            stratum.free -= 1
            stratum.passed += 1
        else:
            asked += 1
            sampler.is_due(stratum, 0.001)
    assert asked < 200


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000), st.floats(0.005, 0.5))
def test_any_number_of_shapes_costs_no_more_than_the_rate(count: int, rate: float) -> None:
    shapes = [f"s{random.Random(i).randrange(count)}" for i in range(10_000)]
    got = sum(_sampled(shapes, rate).values())
    # where each shape is seen less often than a sample takes to fall due, a half-full start tips over early
    assert got <= rate * 10_000 * 1.6 + 0.5 * min(count, 10_000) * rate + 5


def test_a_changed_rate_holds_at_once() -> None:
    sampler = Sampler()
    stratum = sampler.stratum("a")
    for _ in range(1000):
        sampler.is_due(stratum, 0.0)
    assert sum(sampler.is_due(stratum, 1.0) for _ in range(100)) == 100
    assert sum(sampler.is_due(stratum, 0.0) for _ in range(100)) == 0


def test_a_mix_that_changes_after_long_is_followed() -> None:
    sampler = Sampler()
    for _ in range(300_000):
        sampler.is_due(sampler.stratum("old"), 0.01)
    got = sum(sampler.is_due(sampler.stratum("new"), 0.01) for _ in range(100_000))
    assert got == pytest.approx(1000, rel=0.5)
