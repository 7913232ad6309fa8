"""When a step that no request feels is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.level_notice import LevelNotice, is_lasting
from layerwatch.detectors.level_shift import LevelShift
from layerwatch.schemas.engines import Layer

LAYERS = [Layer("conv1", "Convolution"), Layer("conv2", "Convolution")]


def step(thresholds: float, share: float = 0.01) -> LevelShift:
    """Of the first layer, so many times its threshold."""
    excess_ms, expected_ms = np.array([0.02, 0.0]), np.array([0.1, 1.0])
    return LevelShift(
        "single_layer", "conv1", "smaller", 0.1 * thresholds, 0.1, share, 5.0, excess_ms, expected_ms
    )


def shown(*blocks: float | None) -> list[int]:
    """How many open notices each block leaves; None is a block without a step."""
    notice, told = LevelNotice("bert-0", "sha256:1"), []
    for number, thresholds in enumerate(blocks):
        shifts = [] if thresholds is None else [(step(thresholds), LAYERS)]
        notice.show(shifts, float(number))
        told.append(sum(episode.closed_s is None for episode in notice.episodes()))
    return told


def test_a_small_step_is_told_once_the_next_block_shows_it_too() -> None:
    assert shown(1.2, 1.2) == [0, 1]
    assert shown(1.2, None, 1.2, None) == [0, 0, 0, 0]


def test_a_plain_step_is_told_at_once_since_its_half_of_inputs_may_not_come_again() -> None:
    assert shown(1.8) == [1]
    assert shown(1.8, None) == [1, 0]


@given(st.lists(st.none() | st.floats(1.0, 4.0), max_size=12))
def test_what_is_told_is_one_notice_that_ends_with_its_step(blocks: list[float | None]) -> None:
    for thresholds, open_ones in zip(blocks, shown(*blocks), strict=True):
        assert open_ones <= (thresholds is not None)


def test_a_step_that_requests_feel_is_no_notice() -> None:
    notice = LevelNotice("bert-0", "sha256:1")
    notice.show([(step(3.0, share=0.2), LAYERS)], 1.0)
    assert notice.episodes() == []


def test_its_state_survives_a_restart_between_two_blocks() -> None:
    notice = LevelNotice("bert-0", "sha256:1")
    notice.show([(step(1.2), LAYERS)], 1.0)
    again = LevelNotice("bert-0", "sha256:1")
    again.load(notice.state())
    again.show([(step(1.2), LAYERS)], 2.0)
    assert len(again.episodes()) == 1


@pytest.mark.parametrize(
    ("channel", "clock_s", "lasts"),
    [("common_level", 6.9, False), ("common_level", 7.1, True), ("layer_group", 5.1, True)],
)
def test_all_layers_together_must_be_slower_for_two_seconds(
    channel: str, clock_s: float, lasts: bool
) -> None:
    assert is_lasting(replace(step(2.0, share=0.24), channel=channel), clock_s) is lasts
