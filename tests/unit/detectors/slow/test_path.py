"""An instance's executions, minute by minute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.batch import Executions, LayerTimes
from layerwatch.detectors.models import shipped
from layerwatch.detectors.shapes import point_of
from layerwatch.detectors.slow.path import SlowPath
from layerwatch.schemas.signals import Episode

SHAPES = [{"x": [batch, length]} for batch in (1, 2, 4) for length in (64, 128, 256, 512)]
COST_MS = np.array([0.02 * (s["x"][0] * s["x"][1]) ** 0.7 for s in SHAPES])
EVEN, LONG_ONLY = np.ones(12), np.where(np.arange(12) % 4 == 3, 50.0, 1.0)
_EACH_S, _COUNT = 10.0, 30  # of a message


def message(number: int, mix: F64 = EVEN, factor: F64 | float = 1.0, host: float = 1.0) -> Executions:
    """Ten seconds; `factor` [shapes] slows the layers, `host` the time between them."""
    draw = np.random.default_rng(number)
    shape = draw.choice(12, _COUNT, p=mix / mix.sum())
    layers = (
        (COST_MS * factor)[shape, None]
        * np.array([0.6, 0.4])
        * np.exp(0.02 * draw.standard_normal(_COUNT))[:, None]
    )
    start_s = 1000.0 + number * _EACH_S
    return Executions(
        engine="e",
        shapes=SHAPES,
        times_s=start_s + _EACH_S * np.arange(1, _COUNT + 1) / (_COUNT + 1),
        shape=shape,
        profile=np.zeros(_COUNT, np.int64),
        switched=np.zeros(_COUNT, bool),
        changed=np.zeros(_COUNT, np.int64),
        path=np.zeros(_COUNT, np.int64),
        end_to_end_ms=layers.sum(1) + 0.3 * host * np.exp(0.02 * draw.standard_normal(_COUNT)),
        layers=[LayerTimes(0, np.arange(_COUNT), layers.astype(np.float32))],
        counters=np.empty((0, 14)),
        precision=None,
        rate=1.0,
        clock_s=start_s + _EACH_S,
    )


def push(
    slow: SlowPath, batch: Executions, disturbed: bool = False, clock_drop: float = 0.0
) -> list[Episode]:
    points = [point_of(shape) for shape in batch.shapes]
    slow.push(batch, points, np.ones(len(batch), bool), None, disturbed, shipped().slow_lstm, clock_drop)
    return slow.episodes


def told(slow: SlowPath, minutes: range, **changes: Any) -> list[Episode]:
    """The last word on each episode."""
    clock_drop = changes.pop("clock_drop", 0.0)
    numbers = range(6 * minutes.start, 6 * minutes.stop)
    episodes = [ep for n in numbers for ep in push(slow, message(n, **changes), clock_drop=clock_drop)]
    return list({episode.id: episode for episode in episodes}.values())


@pytest.fixture(scope="module")
def learnt() -> bytes:
    """The state after two hours in which nothing was wrong."""
    slow = SlowPath("i", "e")
    assert told(slow, range(120)) == []
    assert slow.status == "watching"
    return pack({"hot": slow.hot(), "slow": slow.slow()})


def restored(state: bytes) -> SlowPath:
    parts = unpack(state)
    return SlowPath.restore("i", "e", parts["hot"], parts["slow"])


def test_layers_that_take_a_tenth_longer_are_told_with_since_when(learnt: bytes) -> None:
    found = told(restored(learnt), range(120, 135), factor=1.1)
    assert [(ep.kind, ep.severity) for ep in found] == [("precursor", "warning")]
    assert abs(found[0].onset_s - (1000 + 120 * 60)) <= 180
    assert found[0].opened_s - found[0].onset_s <= 12 * 60
    assert "sum of layers" in found[0].summary
    assert found[0].causes[0].cause == "unknown"


def test_a_change_of_the_mix_alone_is_told_by_nobody(learnt: bytes) -> None:
    assert told(restored(learnt), range(120, 180), mix=LONG_ONLY) == []


def test_what_hurts_dear_shapes_only_is_told_as_that(learnt: bytes) -> None:
    factor = np.where(np.quantile(COST_MS, 0.7) <= COST_MS, 1.12, 1.0)
    found = told(restored(learnt), range(120, 140), factor=factor)
    assert "dearest third of shapes" in found[0].summary


def test_time_between_the_layers_is_told_as_that(learnt: bytes) -> None:
    found = told(restored(learnt), range(120, 140), host=1.8)
    assert "sum of layers" not in found[0].summary


def test_a_clock_that_has_dropped_is_named_as_the_cause(learnt: bytes) -> None:
    found = told(restored(learnt), range(120, 135), factor=1.1, clock_drop=0.1)
    assert found[0].causes[0].cause == "clock_throttle"


def test_what_the_fast_path_has_told_is_neither_told_again_nor_learnt_from(learnt: bytes) -> None:
    slow = restored(learnt)
    before = pack(slow.slow()["watch"])
    for number in range(720, 780):
        assert push(slow, message(number, factor=1.5), disturbed=True) == []
    # The block that was half full when the trouble began is passed over too.
    assert pack(slow.slow()["watch"]) == before


def test_an_episode_closes_when_all_is_well_again_or_the_instance_leaves(learnt: bytes) -> None:
    slow = restored(learnt)
    opened = told(slow, range(120, 135), factor=1.1)
    assert opened[0].closed_s is None
    assert [ep.closed_s for ep in restored(_kept(slow)).close(9e9)] == [9e9]
    closed = told(slow, range(135, 145))
    assert [ep.id for ep in closed] == [opened[0].id]
    assert closed[0].closed_s is not None
    assert slow.close(9e9) == []


@pytest.mark.parametrize("cut", [3, 25, 61])
def test_a_restart_at_any_message_changes_nothing(learnt: bytes, cut: int) -> None:
    messages = [message(n, factor=1.1) for n in range(720, 810)]
    whole, halves = restored(learnt), restored(learnt)
    expected = [push(whole, batch) for batch in messages]
    got = [push(halves, batch) for batch in messages[:cut]]
    halves = restored(_kept(halves))
    got += [push(halves, batch) for batch in messages[cut:]]
    assert got == expected
    assert any(expected)


def test_a_slow_part_that_is_newer_than_the_block_judges_no_block_twice(learnt: bytes) -> None:
    slow = restored(learnt)
    hot = pack(slow.hot())
    for number in range(720, 728):
        push(slow, message(number))
    newer = SlowPath.restore("i", "e", unpack(hot), unpack(pack(slow.slow())))
    for number in range(720, 728):
        push(newer, message(number))
    assert newer.judged == slow.judged


def test_another_process_goes_on_with_what_was_learnt(learnt: bytes) -> None:
    slow = restored(learnt)
    slow.interrupt()
    assert told(slow, range(120, 135), factor=1.1)


def test_a_build_that_rests_keeps_what_it_cost_when_it_was_learnt(learnt: bytes) -> None:
    slow = restored(learnt).resting()
    assert slow.status == "learning"
    assert told(slow, range(120, 240), factor=1.2) == []  # it came back slower: nothing has shifted since
    found = told(slow, range(240, 260), factor=1.3)
    assert "30." in found[0].summary or "29." in found[0].summary  # above what it cost at first


def test_the_state_stays_small(learnt: bytes) -> None:
    assert len(learnt) < 80_000


def _kept(slow: SlowPath) -> bytes:
    return pack({"hot": slow.hot(), "slow": slow.slow()})
