"""The intervals that the measurements on a GPU print."""

from __future__ import annotations

import random

import pytest

from layerwatch.engines.intervals import percentile, relative_interval_pct


def test_the_interval_holds_the_truth_about_nineteen_times_in_twenty() -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(400):
        drift = [2.0 + 0.2 * rng.random() for _ in range(25)]  # the same for both sides of a pair
        plain = [d * rng.gauss(1.0, 0.01) for d in drift]
        other = [1.005 * d * rng.gauss(1.0, 0.01) for d in drift]
        low, _, high = relative_interval_pct(plain, other)
        held += low <= 0.5 <= high
    assert 0.92 < held / 400 < 0.98


def test_noise_is_not_taken_for_cost() -> None:
    rng = random.Random(4)
    plain, other = ([max(0.5, rng.gauss(1.0, 0.1)) for _ in range(20_000)] for _ in range(2))
    low, more, high = relative_interval_pct(plain, other)
    assert low < 0 < high  # the mean of each pair's ratio is 1 % too large here
    assert more == pytest.approx(100 * (sum(other) / sum(plain) - 1))
    assert 0.15 < high - more < 0.25


def test_blocks_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        relative_interval_pct([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no pairs"):
        relative_interval_pct([1.0], [1.0])


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 2.0, 3.0, 3.0]
