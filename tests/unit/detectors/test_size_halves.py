"""Executions are parted by the size of their inputs, as evenly as the sizes allow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.size_halves import SizeHalves


def halves_of(sizes: list[float]) -> SizeHalves:
    halves = SizeHalves()
    halves.push(np.repeat(np.array(sizes), 4))  # one of four is remembered
    halves.settle()
    return halves


def test_many_sizes_are_parted_at_the_median() -> None:
    halves = halves_of(list(range(100)))
    assert halves.larger(np.arange(100.0)).sum() == 50


def test_few_sizes_are_parted_between_two_of_them() -> None:
    sizes = [1.0] * 30 + [8.0] * 40 + [32.0] * 30
    halves = halves_of(sizes)
    assert halves.parted
    assert halves.larger(np.array([1.0, 8.0, 32.0])).tolist() == [False, False, True]


def test_what_most_executions_have_is_not_parted() -> None:
    halves = halves_of([224.0] * 90 + [448.0] * 10)
    assert halves.stands
    assert not halves.parted
    assert not halves.larger(np.array([448.0])).any()


def test_nothing_is_parted_before_enough_was_seen() -> None:
    halves = SizeHalves()
    halves.push(np.arange(16.0))
    assert not halves.stands


@given(st.lists(st.integers(1, 10_000).map(float), min_size=12, max_size=100))
def test_neither_half_is_small_and_a_restart_changes_nothing(sizes: list[float]) -> None:
    halves = halves_of(sizes)
    larger = halves.larger(np.array(sizes))
    assert halves.parted == bool(0.2 <= larger.mean() <= 0.8)
    back = SizeHalves.restore(unpack(pack(halves.state())))
    assert (back.larger(np.array(sizes)) == larger).all()
    back.settle()
    assert (back.larger(np.array(sizes)) == larger).all()
