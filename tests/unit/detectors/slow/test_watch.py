"""Small shifts and slow ones, on levels of blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.models import shipped
from layerwatch.detectors.slow.watch import KINDS, Watch

SHIFT, CREEP = KINDS.index("shift"), KINDS.index("creep")
Event = tuple[int, int, str]


def noise(blocks: int, streams: int = 3, seed: int = 1) -> F64:
    return 0.01 * np.random.default_rng(seed).standard_normal((blocks, streams))


def watch(streams: int = 3) -> Watch:
    return Watch(streams, np.arange(1, streams + 1, dtype=np.uint64), shipped().slow_lstm)


def events(watch: Watch, levels: F64, first: int = 0) -> list[Event]:
    """(block, stream, what)"""
    out: list[Event] = []
    for block, values in enumerate(levels, first):
        judged = watch.update(values, block)
        out += [(block, int(s), KINDS[judged.opened[s]]) for s in np.flatnonzero(judged.opened)]
        out += [(block, int(s), "closed") for s in np.flatnonzero(judged.closed)]
    return out


def test_a_step_of_ten_percent_is_found_within_minutes_on_the_stream_that_has_it() -> None:
    caught = 0
    for seed in range(20):
        begins = 150 + 5 * seed
        levels = noise(300, seed=seed)
        levels[begins:, 1] += math.log(1.1)
        watching = watch()
        found = events(watching, levels)
        assert [(stream, what) for _, stream, what in found] in ([(1, "shift")], [])
        if not found:
            continue
        assert watching.shift[1] == pytest.approx(math.log(1.1), abs=0.02)
        caught += begins + 2 <= found[0][0] <= begins + 15
    assert caught >= 18


def test_a_step_of_three_percent_is_nobodys_concern() -> None:
    levels = 0.3 * noise(400)
    levels[200:] += 0.03
    assert events(watch(), levels) == []


def test_faster_is_no_alarm() -> None:
    levels = noise(400)
    levels[200:] -= 0.2
    assert events(watch(), levels) == []


def test_an_alarm_ends_when_the_level_is_back_and_can_come_again() -> None:
    levels = noise(700)
    levels[200:240, 0] += 0.15
    levels[500:540, 0] += 0.15
    found = events(watch(), levels)
    assert [what for _, _, what in found] == ["shift", "closed", "shift", "closed"]
    assert 240 <= found[1][0] <= 246


def test_a_level_that_stays_is_the_level_after_six_hours() -> None:
    levels = noise(700)
    levels[200:, 0] += 0.15
    found = events(watch(), levels)
    assert [what for _, _, what in found] == ["shift", "closed"]
    assert found[1][0] == found[0][0] + 360


@pytest.mark.parametrize("begins", [600, 900])
def test_five_percent_an_hour_is_found_within_two_hours(begins: int) -> None:
    levels = 0.5 * noise(begins + 150)
    levels[begins:, 2] += math.log(1.05) / 60 * np.arange(150)
    watching = watch()
    found = events(watching, levels)
    assert found
    assert {stream for _, stream, _ in found} == {2}
    assert found[0][0] <= begins + 120
    if watching.alarm[2] == CREEP:
        assert abs(found[0][0] - int(watching.since[2]) - begins) <= 60


def test_one_percent_an_hour_is_healthy() -> None:
    levels = 0.5 * noise(1500)
    levels += 0.01 / 60 * np.arange(1500)[:, None]
    assert events(watch(), levels) == []


def test_what_a_stream_does_every_day_is_no_creep() -> None:
    levels = 0.5 * noise(5 * 1440)
    levels += 0.04 * np.sin(2 * np.pi * np.arange(len(levels)) / 1440)[:, None]
    assert events(watch(), levels) == []


@settings(max_examples=8, deadline=None)
@given(cut=st.integers(1, 399))
def test_a_restart_changes_no_event(cut: int) -> None:
    levels = noise(400)
    levels[200:240, 0] += 0.15
    levels[::7, 1] = np.nan
    whole = watch()
    before = events(whole, levels[:cut])
    other = Watch.restore(unpack(pack(whole.state())), shipped().slow_lstm)
    after = events(other, levels[cut:], cut)
    assert before + after == events(watch(), levels)
