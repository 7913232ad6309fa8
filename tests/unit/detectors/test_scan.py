"""Rare events: counted exactly, in several windows of limited age."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.scan import WINDOWS, Scan, binomial_tail, hits_needed


@settings(max_examples=150)
@given(st.floats(5e-4, 0.5), st.sampled_from([*WINDOWS, 7]), st.data())
def test_the_tail_is_that_of_the_binomial_distribution(p: float, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert binomial_tail(p, n, k) == pytest.approx(float(binom.sf(k - 1, n, p)), rel=1e-9, abs=1e-290)


@pytest.mark.parametrize("n", WINDOWS)
def test_the_hits_that_are_needed_grow_with_the_rate(n: int) -> None:
    needed = [hits_needed(p, n) for p in (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2)]
    assert needed == sorted(needed)
    assert needed[0] >= 3


@pytest.mark.parametrize("p", [0.0005, 0.01, 0.2])
def test_the_hits_that_are_needed_grow_with_the_window_and_are_just_enough(p: float) -> None:
    needed = [hits_needed(p, n) for n in WINDOWS]
    assert needed == sorted(needed)
    for n, k in zip(WINDOWS, needed, strict=True):
        assert binomial_tail(p, n, k) < 1e-5
        assert k == 3 or binomial_tail(p, n, k - 1) >= 1e-5


def learnt(rate: float, executions: int = 2000) -> Scan:
    scan = Scan(5e-4)
    scan.warm_up(np.arange(executions) < rate * executions)
    return scan


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_the_rate_that_was_learnt_fires_rarely(rate: float) -> None:
    draw = np.random.default_rng(3)
    scan, fired = learnt(rate), 0
    for chunk in range(400):
        times_s = np.linspace(chunk * 0.3, chunk * 0.3 + 0.28, 32)
        fired += scan.push(times_s, draw.random(32) < rate) is not None
    assert fired <= 2


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
def test_a_burst_fires_and_says_since_when(rate: float) -> None:
    scan = learnt(rate)
    times_s = np.linspace(100, 100.39, 40)
    assert scan.push(times_s, np.zeros(40, bool)) is None
    hits = np.arange(40) % 2 == 1
    result = scan.push(np.linspace(101, 101.39, 40), hits)
    assert result is not None
    assert result.hits >= result.needed
    assert result.p_value < 1e-5
    assert result.onset_s == pytest.approx(101.01 if result.window >= 40 else 101.21, abs=0.011)


def test_hits_further_apart_than_ten_seconds_are_not_counted_together() -> None:
    scan = learnt(0.0)
    assert all(scan.push(np.array([t]), np.array([True])) is None for t in np.arange(0, 90, 5.1))
    scan.clear()
    found = [scan.push(np.array([t]), np.array([True])) is not None for t in (0, 3, 6)]
    assert found == [False, False, True]


def test_few_executions_are_seen_together_over_a_longer_time() -> None:
    scan = learnt(0.0)
    found = [scan.push(np.array([t]), np.array([True]), 30.0) is not None for t in (0, 12, 24)]
    assert found == [False, False, True]


def test_hits_right_before_a_trouble_are_not_taken_for_healthy() -> None:
    scan, hits = learnt(0.0), np.arange(100) < 20
    scan.learn(hits)
    scan.clear()
    assert scan.rate == learnt(0.0).rate
    for part in (hits, np.zeros(100, bool), np.zeros(100, bool)):
        scan.learn(part)
    assert scan.rate > learnt(0.0).rate


def test_what_is_believed_at_first_gives_way_to_what_is_seen() -> None:
    scan = Scan(1e-4, 5000)
    assert scan.rate == pytest.approx(1e-4)
    scan.warm_up(np.arange(5000) < 100)
    assert scan.rate == pytest.approx(0.01, rel=0.02)


def test_without_a_hit_there_is_nothing_new_to_say() -> None:
    scan = learnt(0.0)
    assert scan.push(np.arange(4.0), np.ones(4, bool)) is not None
    assert scan.push(np.array([4.5]), np.zeros(1, bool)) is None


def test_the_rate_is_never_taken_for_nothing_nor_for_certain() -> None:
    assert learnt(0.0, 10**6).rate == 5e-4
    assert learnt(1.0).rate == 0.2


def test_what_is_restored_counts_on() -> None:
    scan = learnt(0.01)
    scan.push(np.array([1.0, 2.0]), np.array([True, True]))
    back = Scan(5e-4)
    back.load(unpack(pack(scan.state())))
    later = (np.array([3.0, 4.0]), np.array([True, True]))
    assert back.push(*later) == scan.push(*later)
    assert back.rate == scan.rate


def test_two_events_are_enough_where_asked_for_but_one_hiccup_is_not() -> None:
    times_s = np.arange(60.0) / 3
    for second, found in ((1, False), (2, False), (30, True), (59, True)):
        scan = Scan(3e-5, 17_000, least_hits=2, apart_s=1.0)
        hits = np.zeros(60, bool)
        hits[[0, second]] = True
        assert (scan.push(times_s, hits, 30.0) is not None) is found
        assert learnt(0.0).push(times_s, hits, 30.0) is None  # by default it takes three


@pytest.mark.parametrize(
    ("rate", "hits", "crowded"), [(0.0, 1, False), (0.0, 2, True), (0.01, 4, False), (0.01, 8, True)]
)
def test_a_few_hits_more_than_usual_are_enough_to_go_on(rate: float, hits: int, crowded: bool) -> None:
    scan = learnt(rate)
    scan.push(np.linspace(0.0, 2.0, 200), np.arange(200) % 25 == 0 if hits == 8 else np.arange(200) < hits)
    assert scan.crowded() is crowded
