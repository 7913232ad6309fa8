"""Evidence from p-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.slow.edetector import EDetector

STREAMS = 300


def alarms(p: np.ndarray, threshold: float) -> int:
    detector, count = EDetector(p.shape[1]), 0
    for row in p:
        over = detector.update(row) >= threshold
        count += int(over.sum())
        detector.reset(over)
    return count


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), threshold=st.sampled_from([100.0, 1000.0]))
def test_while_nothing_changes_alarms_come_no_more_often_than_once_in_so_many_blocks(
    seed: int, threshold: float
) -> None:
    p = np.random.default_rng(seed).random((1000, STREAMS))
    expected = p.size / threshold
    assert alarms(p, threshold) <= expected + 3 * expected**0.5


def test_each_bet_is_fair() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    evidence = EDetector(len(p)).update(p)
    assert evidence.mean() == pytest.approx(1.0, abs=0.25)  # from below: the best wins lie between the points
    assert evidence.mean() <= 1.0


def test_evidence_of_a_change_mounts_within_blocks_and_says_since_when() -> None:
    detector = EDetector(1)
    draw = np.random.default_rng(2)
    for p in draw.random(500):
        detector.update(np.array([p]))
    blocks = 0
    while detector.update(draw.random(1) / 100)[0] < 1e6:
        blocks += 1
    assert blocks < 12
    assert blocks <= detector.run_blocks[0] <= blocks + 8


def test_a_block_without_a_p_value_leaves_a_stream_as_it_was() -> None:
    detector = EDetector(2)
    detector.update(np.array([0.01, 0.01]))
    after = detector.update(np.array([np.nan, 0.5]))
    assert after[0] == EDetector(1).update(np.array([0.01]))[0]
    assert after[1] != after[0]
    assert detector.run_blocks.tolist() == [1, 2]
