"""p-values by rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.slow.conformal import Ranks, uniform

STREAMS = 200
NONE = np.zeros(STREAMS, bool)
ALL = ~NONE


def seeds(first: int = 1) -> np.ndarray:
    return np.arange(first, first + STREAMS, dtype=np.uint64)


def p_values(scores: F64, ranks: Ranks, first: int = 0) -> F64:
    """[blocks, streams] of scores that are all healthy."""
    out = []
    for block, score in enumerate(scores, first):
        out.append(ranks.p_values(score, block))
        ranks.learn(score, ALL, NONE)
    return np.array(out)


def drawn(kind: str, seed: int, blocks: int) -> F64:
    draw = np.random.default_rng(seed)
    shape = blocks, STREAMS
    if kind == "normal":
        return draw.standard_normal(shape)
    if kind == "cauchy":
        return draw.standard_cauchy(shape)
    return np.floor(2 * draw.random(shape))  # a coin: nothing but ties


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(["normal", "cauchy", "coin"]), seed=st.integers(0, 2**32))
def test_exchangeable_scores_have_uniform_p_values(kind: str, seed: int) -> None:
    p = p_values(drawn(kind, seed, 200), Ranks(STREAMS, seeds(seed % 1000)))[100:].ravel()
    assert len(p) == 20_000
    for share in (0.01, 0.1, 0.5, 0.9):
        assert np.mean(p <= share) == pytest.approx(share, abs=0.06 * (share * (1 - share)) ** 0.5 + 0.003)


def test_a_score_above_all_others_has_the_least_p_value() -> None:
    ranks = Ranks(STREAMS, seeds())
    p_values(drawn("normal", 1, 124), ranks)
    assert (ranks.p_values(np.full(STREAMS, 99.0), 500) <= 1 / 101).all()
    assert (ranks.p_values(np.full(STREAMS, -99.0), 500) > 100 / 101).all()


def test_there_is_no_p_value_before_forty_scores_have_waited() -> None:
    p = p_values(drawn("normal", 1, 70), Ranks(STREAMS, seeds()))
    assert np.isnan(p[:64]).all()
    assert not np.isnan(p[64:]).any()


def test_what_waits_when_an_alarm_comes_is_never_learnt_from() -> None:
    ranks = Ranks(STREAMS, seeds())
    p_values(drawn("normal", 1, 124), ranks)
    p_values(np.full((20, STREAMS), 50.0), ranks, 124)
    ranks.learn(np.full(STREAMS, 50.0), NONE, ALL)
    p_values(drawn("normal", 2, 60), ranks, 145)
    assert (ranks.p_values(np.full(STREAMS, 49.0), 500) < 1 / 101).all()


def test_random_numbers_depend_on_seed_and_counter_alone() -> None:
    assert (uniform(seeds(), 7) == uniform(seeds(), 7)).all()
    many = np.concatenate([uniform(seeds(), counter) for counter in range(200)])
    assert len(np.unique(many)) == len(many)
    assert np.quantile(many, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.01)


def test_a_restart_changes_no_p_value() -> None:
    scores = drawn("normal", 3, 300)
    ranks = Ranks(STREAMS, seeds())
    p_values(scores[:150], ranks)
    other = Ranks.restore(unpack(pack(ranks.state())))
    assert (p_values(scores[150:], ranks, 150) == p_values(scores[150:], other, 150)).all()
