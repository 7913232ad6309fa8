"""Levels of blocks in time, and how far they drift."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.block_levels import BlockLevels, contrasts, size_of
from layerwatch.detectors.shapes import Point


@pytest.mark.parametrize(
    ("point", "size"), [(Point(1, 1), 0), (Point(2, 256), 9), (Point(8, 127), 9), (Point(8, 128), 10)]
)
def test_a_size_is_an_octave_of_batch_times_length(point: Point, size: int) -> None:
    assert size_of(point) == size


def test_one_slow_block_moves_its_own_contrast_only() -> None:
    expected = np.array([[1.0, 1.0, 0.5, 2.0]])
    row = contrasts(expected * [[1.1, 1.1, 1.43, 1.1]], expected)[0]
    assert row == pytest.approx([0, 0, np.log(1.3), 0, np.log(1.1)])


def test_what_all_share_is_the_common_mode() -> None:
    expected = np.array([[1.0, 1.0, 0.5, 2.0]])
    assert contrasts(expected * 1.2, expected)[0] == pytest.approx([0, 0, 0, 0, np.log(1.2)])


def filled(seconds: float, value: float = 0.1, step_s: float = 0.1, noise: float = 0.01) -> BlockLevels:
    draw = np.random.default_rng(3)
    levels = BlockLevels(2)
    times = np.arange(0, seconds, step_s)
    for part in np.array_split(np.arange(len(times)), max(1, len(times) // 7)):
        rows = value + noise * draw.standard_normal((len(part), 2))
        levels.push(times[part], np.full(len(part), 9), rows)
    return levels


def test_a_level_needs_executions_and_time() -> None:
    assert filled(1.5).level(9) is None
    level = filled(10.0).level(9)
    assert level is not None
    assert level.count == pytest.approx(16, abs=2)
    assert level.mean == pytest.approx([0.1, 0.1], abs=0.01)
    assert filled(10.0, step_s=0.001).level(9) is not None
    assert filled(10.0).level(8) is None


def test_drift_is_told_from_noise() -> None:
    still, moving = filled(60.0), filled(60.0)
    times = np.arange(60.0, 64.0, 0.1)
    moving.push(times, np.full(len(times), 9), np.full((len(times), 2), 0.3))
    one, other = still.level(9), moving.level(9)
    assert one is not None
    assert other is not None
    assert (one.drift < 0.02).all()
    assert (other.drift > 0.1).all()


def test_what_went_on_long_ago_is_remembered_as_drift() -> None:
    levels = filled(40.0, value=0.3)
    times = np.arange(40.0, 80.0, 0.1)
    levels.push(times, np.full(len(times), 9), np.full((len(times), 2), 0.1))
    level = levels.level(9)
    assert level is not None
    assert level.mean == pytest.approx([0.1, 0.1], abs=0.01)
    assert level.drift == pytest.approx([0.2, 0.2], abs=0.03)


def test_levels_come_back_as_they_were_kept() -> None:
    levels = filled(33.0)
    saved = pack(levels.state())
    back = BlockLevels.restore(unpack(saved))
    assert pack(back.state()) == saved
    one, other = levels.level(9), back.level(9)
    assert one is not None
    assert other is not None
    assert (one.mean == other.mean).all()
    assert (one.drift == other.drift).all()
