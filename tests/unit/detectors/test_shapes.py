"""Shapes as coordinates, and a basis that grows with the mix of shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.shapes import Point, ShapeBasis, point_of

points = st.builds(
    Point,
    batch=st.integers(1, 2**31),
    length=st.integers(1, 2**62),
    alignment=st.sampled_from([1, 2, 4, 8]),
)


@pytest.mark.parametrize(
    ("shape", "point"),
    [
        ({"ids": [4, 128]}, (4, 128, 8)),
        ({"image": [8, 3, 224, 224]}, (8, 3 * 224 * 224, 1)),
        ({"ids": [2, 64], "image": [1, 3, 32, 32]}, (1, 3 * 32 * 32, 1)),
        ({"x": [7]}, (7, 1, 8)),
        ({"x": [1], "scale": []}, (1, 1, 8)),
        ({"past": [1, 0, 64], "ids": [1, 9]}, (1, 9, 1)),
        ({"embedded": [2, 100, 768]}, (2, 76800, 4)),
    ],
)
def test_the_largest_input_gives_the_coordinates(
    shape: dict[str, list[int]], point: tuple[int, int, int]
) -> None:
    assert point_of(shape) == Point(*point)


def test_the_order_of_inputs_makes_no_difference() -> None:
    assert point_of({"a": [2, 64], "b": [1, 3, 32]}) == point_of({"b": [1, 3, 32], "a": [2, 64]})


def test_a_bucket_is_an_exact_batch_and_half_an_octave_of_length() -> None:
    assert Point(4, 128).cell == Point(4, 180).cell
    assert Point(4, 128).cell != Point(4, 182).cell
    assert Point(4, 128).cell != Point(5, 128).cell
    assert Point(4, 128, 8).cell != Point(4, 129, 1).cell


@settings(max_examples=60)
@given(st.lists(points, min_size=1, max_size=12))
def test_the_hats_of_each_coordinate_add_up_to_one(seen: list[Point]) -> None:
    basis = ShapeBasis()
    basis.grow(seen)
    keys = list(basis.columns)
    rows = basis(seen)
    for coordinate in (0, 1):
        kind = [key[coordinate] >= 0 and sum(part != -1 for part in key) == 1 for key in keys]
        assert rows[:, kind].sum(1) == pytest.approx(np.ones(len(seen)))


def test_an_alignment_below_the_best_has_columns_of_its_own() -> None:
    basis = ShapeBasis()
    aligned, odd = Point(2, 56, 8), Point(2, 55, 1)
    basis.grow([aligned])
    assert [key for key in basis.columns if key[2] != -1] == []
    basis.grow([odd])
    own = [key[2] == 1 for key in basis.columns]
    rows = basis([aligned, odd])
    assert rows[0, own].tolist() == [0.0] * sum(own)
    assert rows[1, own].sum() == pytest.approx(3.0)  # alone, by batch, by length


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
    assert len(basis) <= 160
    assert basis([Point(3, 5)]).shape == (1, len(basis))
