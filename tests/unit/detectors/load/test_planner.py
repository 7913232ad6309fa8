"""Plans: what the load needs, never worse than reacting, and within what people say."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.load.block import BLOCK_S, LoadBlock
from layerwatch.detectors.load.capacity import replicas_for
from layerwatch.detectors.load.fleet import Fleet
from layerwatch.detectors.load.planner import Goal, Plan, Planner
from layerwatch.detectors.load.reactive import STABILISATION_S, Reactive


def _blocks(rates: Iterable[float], instances: int = 40, service_s: float = 0.1) -> list[LoadBlock]:
    """Of executions that all take as long."""
    out = []
    for i, rate in enumerate(rates):
        n = rate * BLOCK_S
        out.append(LoadBlock((i + 1) * BLOCK_S, n, n * service_s, n * service_s**2, instances))
    return out


def _plans(planner: Planner, blocks: Iterable[LoadBlock]) -> list[Plan]:
    return [planner.update(block, block.instances) for block in blocks]


def test_a_steady_load_is_first_left_to_utilisation_and_then_planned_from_forecasts() -> None:
    planner = Planner(Goal(0.3, 60.0), None)
    plans = _plans(planner, _blocks([200.0] * 200))
    assert plans[0].basis == "reactive"
    assert plans[-1].basis == "forecast"
    service = planner.mix.service
    assert service is not None
    needed = replicas_for(plans[-1].forecast.upper, service, 0.3)
    assert plans[-1].replicas == needed < 30, "20 replicas' work, and utilisation would have asked for 34"


def test_without_a_target_latency_or_executions_nothing_is_planned() -> None:
    assert _plans(Planner(Goal(None), None), _blocks([30.0] * 50))[-1].replicas is None
    assert _plans(Planner(Goal(0.3), None), _blocks([0.0] * 50))[-1].replicas is None


@given(st.lists(st.floats(0, 200), min_size=5, max_size=120), st.integers(1, 5), st.integers(5, 12))
def test_plans_keep_within_the_limits(rates: list[float], least: int, most: int) -> None:
    goal = Goal(0.3, 60.0, least, most)
    for plan in _plans(Planner(goal, None), _blocks(rates)):
        assert plan.replicas is None or least <= plan.replicas <= most


@given(st.lists(st.floats(0, 200), min_size=2, max_size=120), st.data())
def test_a_restart_changes_no_plan(rates: list[float], data: st.DataObject) -> None:
    blocks, goal = _blocks(rates), Goal(0.3, 60.0)
    cut = data.draw(st.integers(0, len(blocks)))
    whole = _plans(Planner(goal, None), blocks)
    first = Planner(goal, None)
    before = _plans(first, blocks[:cut])
    second = Planner.restore(unpack(pack(first.state())), goal, None)
    assert before + _plans(second, blocks[cut:]) == whole


def test_forecasts_that_fail_hand_over_and_must_earn_more_to_plan_again() -> None:
    planner = Planner(Goal(0.3, 300.0), None)
    calm = _plans(planner, _blocks([200.0] * 150))
    assert calm[-1].basis == "forecast"
    burst = [LoadBlock(b.end_s + 150 * BLOCK_S, *_rest(b)) for b in _blocks([500.0] * 8, instances=24)]
    plans = _plans(planner, burst)
    assert plans[-1].basis == "reactive", "replicas ran full where the other would have had more"
    again = [LoadBlock(b.end_s + 158 * BLOCK_S, *_rest(b)) for b in _blocks([200.0] * 3000)]
    waited = [plan.basis for plan in _plans(planner, again)].index("forecast")
    assert waited > [plan.basis for plan in calm].index("forecast"), "trust is won back more slowly"


def _rest(block: LoadBlock) -> tuple[float, float, float, int]:
    return block.executions, block.busy_s, block.busy_s2, block.instances


class TestReactive:
    def test_it_asks_for_what_the_busy_replicas_need_at_the_target(self) -> None:
        (block,) = _blocks([60.0], 10)  # 6 replicas' work
        assert Reactive(0.6).update(block, 5) == 10

    def test_a_small_deviation_changes_nothing(self) -> None:
        (block,) = _blocks([60.0], 10)
        assert Reactive(0.6).update(block, 10) == 10

    def test_it_takes_away_only_after_the_stabilisation_window(self) -> None:
        reactive, blocks = Reactive(0.6), _blocks([60.0] + [6.0] * 40, 10)
        wishes = [reactive.update(block, 10) for block in blocks]
        low = wishes.index(1)
        assert blocks[low].end_s - blocks[0].end_s == pytest.approx(STABILISATION_S)
        assert set(wishes[:low]) == {10}


class TestFleet:
    def test_ordered_replicas_serve_after_their_start_up(self) -> None:
        fleet = Fleet(2)
        fleet.order(5, 0.0, 60.0)
        assert (fleet.serving, fleet.ordered) == (2, 5)
        planner = Planner(Goal(0.3), None)
        blocks = _blocks([10.0] * 5)
        for block in blocks:
            planner.mix.update(block)
            assert planner.mix.service is not None
            fleet.late(block, planner.mix.service, 0.3)
        assert fleet.serving == 5

    def test_fewer_replicas_take_those_first_that_still_start(self) -> None:
        fleet = Fleet(4)
        fleet.order(8, 0.0, 60.0)
        fleet.order(6, 15.0, 60.0)
        assert (fleet.serving, fleet.ordered) == (4, 6)
        fleet.order(3, 30.0, 60.0)
        assert (fleet.serving, fleet.ordered) == (3, 3)
