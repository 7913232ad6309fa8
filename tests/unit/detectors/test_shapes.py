"""Shapes as coordinates, and a basis that grows with the mix of shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.shapes import Point, ShapeBasis, point_of

points = st.builds(Point, batch=st.integers(1, 2**31), length=st.integers(1, 2**62))


@pytest.mark.parametrize(
    ("shape", "point"),
    [
        ({"ids": [4, 128]}, (4, 128)),
        ({"image": [8, 3, 224, 224]}, (8, 3 * 224 * 224)),
        ({"ids": [2, 64], "image": [1, 3, 32, 32]}, (1, 3 * 32 * 32)),
        ({"x": [7]}, (7, 1)),
        ({"x": [1], "scale": []}, (1, 1)),
        ({"past": [1, 0, 64], "ids": [1, 9]}, (1, 9)),
    ],
)
def test_the_largest_input_gives_the_coordinates(shape: dict[str, list[int]], point: tuple[int, int]) -> None:
    assert point_of(shape) == point


def test_the_order_of_inputs_makes_no_difference() -> None:
    assert point_of({"a": [2, 64], "b": [1, 3, 32]}) == point_of({"b": [1, 3, 32], "a": [2, 64]})


def test_a_bucket_is_an_exact_batch_and_half_an_octave_of_length() -> None:
    assert Point(4, 128).cell == Point(4, 180).cell
    assert Point(4, 128).cell != Point(4, 182).cell
    assert Point(4, 128).cell != Point(5, 128).cell


@settings(max_examples=60)
@given(st.lists(points, min_size=1, max_size=12))
def test_the_hats_of_each_coordinate_add_up_to_one(seen: list[Point]) -> None:
    basis = ShapeBasis()
    basis.grow(seen)
    keys = list(basis.columns)
    rows = basis(seen)
    for kind in ([k[1] == -1 and k[0] >= 0 for k in keys], [k[0] == -1 and k[1] >= 0 for k in keys]):
        assert rows[:, kind].sum(1) == pytest.approx(np.ones(len(seen)))


@settings(max_examples=30)
@given(st.lists(points, min_size=1, max_size=12))
def test_it_is_the_same_whether_a_shape_was_asked_for_before_or_not(seen: list[Point]) -> None:
    """A score comes before what is learnt from it; that must not keep a new shape out."""
    asked, fresh = ShapeBasis(), ShapeBasis()
    for point in seen:
        asked([point])
        asked.grow([point])
        fresh.grow([point])
    assert asked.columns == fresh.columns
    assert asked(seen) == pytest.approx(fresh(seen))


def test_it_stays_narrow_whatever_comes() -> None:
    basis = ShapeBasis()
    draw = np.random.default_rng(0)
    basis.grow(Point(int(b), int(n)) for b, n in draw.integers(1, 2**30, (3000, 2)))
    assert len(basis) <= 128
    assert basis([Point(3, 5)]).shape == (1, len(basis))
