"""Simulated months in which nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import F32
from layerwatch.detectors.models import shipped
from layerwatch.evaluation.noise import KINDS, Draw, independent, replayed
from layerwatch.evaluation.null import at_most, null_months


@pytest.mark.parametrize(("events", "bound"), [(0, 2.9957), (1, 4.7439), (10, 16.9622), (176, 199.437)])
def test_the_bound_is_that_of_the_poisson_distribution(events: int, bound: float) -> None:
    assert at_most(events) == pytest.approx(
        bound, abs=0.01
    )  # chi-squared, 2 (events + 1) degrees, .95, halved


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_size_that_it_says_and_no_trend(kind: str) -> None:
    levels = KINDS[kind](np.random.default_rng(1), 3000, 8)
    assert levels.shape == (3000, 8)
    assert np.isfinite(levels).all()
    assert 0.001 < levels[:, 0].std() < 0.12
    assert abs(float(np.median(levels[1500:] - levels[:1500]))) < 0.1


def test_replayed_noise_is_made_of_what_was_recorded() -> None:
    real = np.linspace(-0.1, 0.1, 33)
    levels = replayed([real])(np.random.default_rng(1), 500, 3)
    assert np.isin(levels, real.astype(np.float32)).all()


def test_a_quiet_month_has_no_page_and_faults_in_it_are_found() -> None:
    month = null_months("independent", independent, 2, shipped().slow_lstm, 1, lambda _: None, blocks=400)
    assert (month.pages, month.pages_after_cap, month.degraded) == (0, 0, 0.0)
    assert month.pages_most == pytest.approx(2.9957 / 2, abs=0.01)
    assert [power.found for power in month.power] == [1.0, 1.0, 1.0]
    step = month.power[0].blocks
    assert step is not None
    assert step < 10


def test_months_that_are_not_healthy_are_counted_before_and_after_the_cap() -> None:
    def storms(draw: Draw, blocks: int, streams: int) -> F32:
        levels = independent(draw, blocks, streams)
        for start in range(150, blocks, 600):
            levels[start : start + 40] += np.float32(0.2)
        return levels

    month = null_months("storms", storms, 1, None, 1, lambda _: None, blocks=2000)
    assert month.pages >= 3
    assert month.pages_after_cap == 2


def test_faults_that_cannot_be_seen_are_not_found() -> None:
    def loud(draw: Draw, blocks: int, streams: int) -> F32:
        return 40 * independent(draw, blocks, streams)

    month = null_months("loud", loud, 1, None, 1, lambda _: None, blocks=200)
    assert month.power[0].found < 0.2
