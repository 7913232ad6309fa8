"""The chained index over shape buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.slow.mix import Bucket, ChainedIndex

BUCKETS = [Bucket(0, batch, octave) for batch in (1, 2, 4) for octave in (12, 14, 16)]
OFFSETS = np.linspace(-0.3, 0.4, len(BUCKETS))[:, None] * np.array([1.0, -1.0])

counts = st.lists(st.integers(0, 300), min_size=len(BUCKETS), max_size=len(BUCKETS)).filter(any)


def step(index: ChainedIndex, counts: list[int], shift: float = 0.0) -> np.ndarray:
    seen = [i for i, count in enumerate(counts) if count]
    return index.update(
        [BUCKETS[i] for i in seen], OFFSETS[seen] + shift, np.array([counts[i] for i in seen])
    )


@settings(deadline=None)
@given(st.lists(counts, min_size=2, max_size=40))
def test_a_change_of_the_mix_alone_moves_nothing(mixes: list[list[int]]) -> None:
    index = ChainedIndex(2)
    first = step(index, mixes[0])
    for mix in mixes[1:]:
        assert step(index, mix) == pytest.approx(first, abs=1e-9)


@settings(deadline=None)
@given(st.lists(counts, min_size=2, max_size=40), counts)
def test_what_all_buckets_do_the_index_does(mixes: list[list[int]], last: list[int]) -> None:
    index = ChainedIndex(2)
    first = step(index, [300] * len(BUCKETS))
    for _ in range(200):
        step(index, [300] * len(BUCKETS))
    moved = step(index, [300] * len(BUCKETS), shift=0.2)
    assert moved - first == pytest.approx([0.2, 0.2], abs=1e-6)


def test_a_bucket_moves_the_index_by_its_share_of_the_traffic() -> None:
    index = ChainedIndex(1)
    two = BUCKETS[:2]
    before = index.update(two, np.zeros((2, 1)), np.array([300, 100]))
    after = index.update(two, np.array([[0.0], [0.4]]), np.array([300, 100]))
    assert after - before == pytest.approx([0.1])


def test_a_kind_of_level_that_is_not_known_is_not_guessed() -> None:
    index = ChainedIndex(2)
    out = index.update(BUCKETS[:1], np.array([[0.1, np.nan]]), np.array([50]))
    assert out[0] == pytest.approx(0.1)
    assert np.isnan(out[1])


def test_more_buckets_than_there_is_room_for_push_out_the_longest_unseen_and_move_nothing() -> None:
    index, draw = ChainedIndex(1), np.random.default_rng(1)
    levels = {Bucket(0, batch, 10): draw.normal() for batch in range(90)}
    values = []
    for start in range(0, 90, 5):
        some = list(levels)[start : start + 5]
        level = np.array([[levels[bucket]] for bucket in some])
        values.append(index.update(some, level, np.full(5, 60))[0])
    assert values == pytest.approx([values[0]] * len(values), abs=1e-9)


def test_a_restart_changes_nothing() -> None:
    index = ChainedIndex(2)
    for k in range(5):
        step(index, [k * 10, 50, 0, 0, 20, 10, 0, 0, 5])
    other = ChainedIndex.restore(unpack(pack(index.state())))
    for k in range(5):
        mix = [50, 0, 0, 20, 0, 10 * k, 0, 9, 5]
        assert (step(index, mix, 0.1) == step(other, mix, 0.1)).all()
