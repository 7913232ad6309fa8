"""What rises over hours, on levels of blocks that swing by more than they rise in one."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.slow.creep import Creep

BEGINS = 600  # block: after ten hours


def swings(blocks: int, period: int, seed: int = 1) -> F64:
    """Up and down by 8 % once in so many minutes, a third of them up, and 3 % of noise."""
    up = np.arange(blocks) % period < period / 3
    return 0.08 * up + 0.03 * np.random.default_rng(seed).standard_normal(blocks)


def rises(creep: Creep, levels: F64, first: int = 0) -> list[tuple[int, float, int]]:
    """(block, rise, minutes since it began) of one stream, a block a minute."""
    out = []
    for block, value in enumerate(levels, first):
        found = creep.update(np.array([value]), np.array([True]), block)
        if found is not None and found.rise[0] > 0:
            out.append((block, float(found.rise[0]), int(found.minutes[0])))
    return out


@pytest.mark.parametrize("period", [33, 53, 69, 88])
def test_five_percent_an_hour_is_found_within_three_hours_on_levels_that_swing(period: int) -> None:
    levels = swings(BEGINS + 180, period)
    levels[BEGINS:] += np.log1p(0.05 / 60 * np.arange(180))
    found = rises(Creep(1), levels)
    assert found
    block, rise, minutes = found[0]
    assert block > BEGINS
    assert 0.04 < rise < 0.15
    assert BEGINS - 60 <= block - minutes < block


@pytest.mark.parametrize("period", [33, 53, 69, 88])
def test_one_percent_an_hour_is_healthy_on_levels_that_swing(period: int) -> None:
    levels = swings(3 * 1440, period)
    levels += 0.01 / 60 * np.arange(len(levels))
    assert rises(Creep(1), levels) == []


@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_a_daily_cycle_hides_no_creep_at_whatever_hour_it_begins(hour: int) -> None:
    begins = 1440 + 60 * hour
    levels = 0.005 * np.random.default_rng(1).standard_normal(begins + 240)
    levels += 0.04 * np.sin(2 * np.pi * np.arange(len(levels)) / 1440)
    levels[begins:] += np.log(1.05) / 60 * np.arange(240)
    found = rises(Creep(1), levels)
    assert found
    assert found[0][0] > begins


def test_one_block_that_is_far_off_is_no_rise() -> None:
    levels = 0.01 * np.random.default_rng(1).standard_normal(1440)
    levels[705::15] += 2.0
    assert rises(Creep(1), levels) == []


def test_blocks_that_are_missing_hide_nothing() -> None:
    levels = swings(BEGINS + 180, 53)
    levels[BEGINS:] += np.log1p(0.05 / 60 * np.arange(180))
    creep, found = Creep(1), False
    for block, value in enumerate(levels):
        present = np.array([block % 2 == 0 and not 640 <= block < 655])  # and a whole quarter hour
        at_end = creep.update(np.array([value]), present, block)
        found |= at_end is not None and bool(at_end.rise[0] > 0)
    assert found


@pytest.mark.parametrize("cut", [7, 607, 700])
def test_a_restart_changes_nothing(cut: int) -> None:
    levels = swings(BEGINS + 180, 53)
    levels[BEGINS:] += np.log1p(0.05 / 60 * np.arange(180))
    creep = Creep(1)
    before = rises(creep, levels[:cut])
    after = rises(Creep.restore(unpack(pack(creep.state()))), levels[cut:], cut)
    assert before + after == rises(Creep(1), levels)
