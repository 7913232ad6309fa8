"""Thresholds that rise in seconds and are not forgotten in a quiet minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.lots import Lots


def lots(*values: float) -> Lots:
    made = Lots()
    for value in values:
        made.add([value])
    return made


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_few_are_kept_and_what_they_agree_on_is_one_of_them(values: list[float]) -> None:
    made = lots(*values)
    assert len(made) == min(len(values), 24)
    assert made.agreed()[0] in values


@pytest.mark.parametrize(("noisy", "agreed"), [(2, 0.1), (3, 0.9)])
def test_three_noisy_lots_raise_a_threshold(noisy: int, agreed: float) -> None:
    assert lots(*[0.1] * 20, *[0.9] * noisy).agreed() == [agreed]


@pytest.mark.parametrize(("values", "agreed"), [((0.9,), 0.9), ((0.9, 0.1), 0.1), ((0.9, 0.1, 0.2), 0.2)])
def test_the_first_lot_does_not_decide_for_long(values: tuple[float, ...], agreed: float) -> None:
    assert lots(*values).agreed() == [agreed]


def test_a_quiet_minute_does_not_make_it_forget_a_noisy_one() -> None:
    made = lots(*[0.9] * 30, *[0.1] * 60)
    assert made.agreed() == [0.9]


def test_what_was_noisy_once_is_forgotten_in_the_end() -> None:
    made = lots(*[0.9] * 10, *[0.1] * 5000)
    assert made.agreed() == [0.1]


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=60), st.floats(0, 1))
def test_it_goes_on_after_a_restart(values: list[list[float]], later: float) -> None:
    made = Lots()
    for value in values:
        made.add(value)
    other = Lots.restore(made.state())
    made.add([later, later])
    other.add([later, later])
    assert other.agreed() == made.agreed()
    assert other.state() == made.state()
