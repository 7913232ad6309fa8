"""Baselines against a cost law that is known: half of it per execution, the rest by batch and length."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.baseline import SUPPORT, ShapeBaseline
from layerwatch.detectors.shapes import Point

OUTPUTS = 3
LENGTHS = (16, 24, 40, 64, 96, 128, 200, 256, 384, 512)
MIX = [Point(batch, length) for batch in (1, 2, 4, 8) for length in LENGTHS]


def cost_ms(point: Point) -> F64:
    """A kernel that is latency bound, one in proportion to the tokens, one quadratic in length."""
    tokens = point.batch * point.length
    return np.array([0.02, 0.005 + tokens / 20_000, 0.01 + tokens * point.length / 4e6])


def draw_log_ms(
    points: list[Point], shape: np.ndarray, draw: np.random.Generator, noise: float = 0.03
) -> F64:
    log_cost = np.log(np.array([cost_ms(point) for point in points]))
    log_ms: F64 = log_cost[shape] + noise * draw.standard_normal((len(shape), OUTPUTS))
    return log_ms


def learnt(
    executions: int = 6000,
    batch: int = 60,
    seed: int = 1,
    points: list[Point] = MIX,
    outliers: float = 0.0,
    ask: bool = True,
) -> ShapeBaseline:
    """Fed as the scorer feeds it: messages are scored first, and learnt then."""
    draw = np.random.default_rng(seed)
    shape = draw.integers(0, len(points), executions)
    log_ms = draw_log_ms(points, shape, draw)
    log_ms[draw.random(executions) < outliers] += np.log(50)
    baseline = ShapeBaseline(OUTPUTS)
    for a in range(0, executions, batch):
        if baseline.fitted and ask:
            baseline.expected([points[i] for i in np.unique(shape[a : a + batch])])
        used, index = np.unique(shape[a : a + batch], return_inverse=True)
        baseline.learn([points[i] for i in used], index, log_ms[a : a + batch])
    return baseline


@lru_cache(maxsize=1)
def settled() -> ShapeBaseline:
    return learnt()


def errors(baseline: ShapeBaseline, points: list[Point]) -> F64:
    log_ms, _ = baseline.expected(points)
    gaps: F64 = np.abs(log_ms - np.log(np.array([cost_ms(point) for point in points])))
    return gaps


def test_predictions_come_to_the_true_cost_of_every_shape_seen() -> None:
    gaps = errors(settled(), MIX)
    assert gaps.max() < 0.08
    assert np.median(gaps) < 0.02


def test_lengths_never_seen_are_interpolated() -> None:
    between = [Point(b, n) for b in (1, 2, 4, 8) for n in (20, 32, 52, 80, 112, 160, 230, 320, 448)]
    gaps = errors(settled(), between)
    assert gaps.max() < 0.30
    assert np.median(gaps) < 0.03


def test_the_cost_within_one_bucket_is_told_apart() -> None:
    """From 182 to 255 tokens the quadratic kernel doubles: one level for the bucket would be wrong by 40 %."""
    low, high = Point(4, 182), Point(4, 255)
    assert low.cell == high.cell
    baseline = learnt(points=[*MIX, low, high])
    assert errors(baseline, [low, high]).max() < 0.15


def test_a_shape_never_seen_borrows_and_says_so() -> None:
    far = Point(4, 4096)
    log_ms, seen = settled().expected([far, Point(4, 512)])
    assert seen[0] == 0
    assert seen[1] >= SUPPORT
    assert np.isfinite(log_ms).all()
    assert log_ms[0] == pytest.approx(np.log(cost_ms(Point(4, 512))), abs=0.25)  # its nearest neighbour


def test_a_shape_that_comes_later_finds_its_own_level() -> None:
    baseline = learnt(points=MIX)
    later = [Point(4, 700), Point(4, 720), Point(4, 1000), Point(4, 2000), Point(4, 4000)]
    draw = np.random.default_rng(2)
    for _ in range(100):
        shape = draw.integers(0, len(later), 30)
        baseline.expected(later)
        baseline.learn(later, shape, draw_log_ms(later, shape, draw))
    seen = baseline.expected(later)[1]
    assert (seen >= SUPPORT).all()
    assert errors(baseline, later).max() < 0.15


def test_shapes_that_come_later_are_fitted_as_those_that_came_first() -> None:
    """A jump of the input mix: twice the cost within a bucket must be known there too."""
    baseline = learnt(executions=1200, points=[p for p in MIX if p.length <= 64])
    draw = np.random.default_rng(3)
    long = [Point(4, int(n)) for n in np.linspace(600, 2000, 25)]
    for _ in range(150):
        shape = draw.integers(0, len(long), 40)
        baseline.expected(long)
        baseline.learn(long, shape, draw_log_ms(long, shape, draw))
    assert errors(baseline, long).max() < 0.12


def test_outliers_move_it_little() -> None:
    gaps = np.abs(learnt(outliers=0.01).expected(MIX)[0] - settled().expected(MIX)[0])
    assert gaps.max() < 0.10


def test_the_size_of_messages_makes_little_difference() -> None:
    gaps = np.abs(learnt(batch=17).expected(MIX)[0] - learnt(batch=300).expected(MIX)[0])
    assert gaps.max() < 0.05


def test_the_order_of_executions_within_a_message_makes_no_difference() -> None:
    draw = np.random.default_rng(5)
    shape = draw.integers(0, len(MIX), 500)
    log_ms = draw_log_ms(MIX, shape, draw)
    order = draw.permutation(500)
    one, other = ShapeBaseline(OUTPUTS), ShapeBaseline(OUTPUTS)
    one.learn(MIX, shape, log_ms)
    other.learn(MIX, shape[order], log_ms[order])
    assert other.expected(MIX)[0] == pytest.approx(one.expected(MIX)[0], abs=1e-6)


def test_a_settled_cell_follows_a_slow_drift() -> None:
    baseline = learnt(points=[Point(1, 128)], executions=1000)
    draw = np.random.default_rng(6)
    for _ in range(60):
        shape = np.zeros(50, np.int64)
        baseline.learn([Point(1, 128)], shape, draw_log_ms([Point(1, 128)], shape, draw) + 0.1)
    moved = baseline.expected([Point(1, 128)])[0][0] - np.log(cost_ms(Point(1, 128)))
    assert moved == pytest.approx(np.full(OUTPUTS, 0.1), abs=0.03)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(300, 3000))
def test_what_is_restored_predicts_the_same(seed: int, executions: int) -> None:
    baseline = learnt(executions=executions, seed=seed)
    back = ShapeBaseline.restore(unpack(pack(baseline.state())))
    probes = [*MIX, Point(3, 77), Point(16, 1024)]
    log_ms, seen = baseline.expected(probes)
    again, seen_again = back.expected(probes)
    assert np.abs(again - log_ms).max() < 0.1  # the fit of all it has seen, also since it last fitted
    assert np.abs(again - log_ms)[: len(MIX)].max() < 0.03
    assert seen_again.tolist() == seen.tolist()


def test_what_is_restored_goes_on_learning_the_same() -> None:
    baseline = learnt(executions=1500)
    back = ShapeBaseline.restore(unpack(pack(baseline.state())))
    draw = np.random.default_rng(7)
    for _ in range(40):
        shape = draw.integers(0, len(MIX), 60)
        log_ms = draw_log_ms(MIX, shape, draw)
        baseline.learn(MIX, shape, log_ms)
        back.learn(MIX, shape, log_ms)
    assert np.abs(baseline.expected(MIX)[0] - back.expected(MIX)[0]).max() < 5e-3


@pytest.mark.parametrize("outputs", [1, 427])
def test_thousands_of_distinct_shapes_stay_small(outputs: int) -> None:
    baseline = ShapeBaseline(outputs)
    draw = np.random.default_rng(8)
    for _ in range(60):
        points = [Point(int(b), int(n)) for b, n in draw.integers(1, 4000, (60, 2))]
        baseline.learn(points, np.arange(60), draw.standard_normal((60, outputs)))
    state = baseline.state()
    assert len(state["columns"]) <= 160
    assert len(pack(state)) < 800_000
    assert np.isfinite(baseline.expected(points)[0]).all()


def test_a_length_that_divides_badly_costs_what_others_like_it_cost() -> None:
    """Kernels are chosen by alignment: a length of 56 may take a tenth of one of 55."""
    lengths = np.arange(20, 200)
    points = [Point(2, int(n), math.gcd(int(n), 8)) for n in lengths]
    cost = np.where(lengths % 8 == 0, 0.006, 0.06) * lengths / 50
    shown = np.flatnonzero((lengths % 16 != 0) & (lengths % 5 != 0))
    baseline, draw = ShapeBaseline(1), np.random.default_rng(2)
    for _ in range(40):
        shape = draw.choice(shown, 60)
        baseline.learn(points, shape, np.log(cost[shape])[:, None] + draw.normal(0, 0.05, (60, 1)))
    never = np.flatnonzero(lengths % 5 == 0)
    log_ms, support = baseline.expected([points[i] for i in never])
    assert np.abs(log_ms[:, 0] - np.log(cost[never])).max() < 0.25
    assert (support >= SUPPORT).mean() > 0.9
