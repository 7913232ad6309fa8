"""When a trouble is over: quiet for long enough, seen by enough of what could show it."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.episode import OpenEpisode
from layerwatch.detectors.finding import Finding


def quiet(channel: str, sampled: int, for_s: float) -> bool:
    """Whether an episode of hits a second apart is over after so long, and 200 executions without a hit."""
    finding = Finding(channel, 1.0, 0.5, 99.0)
    episode = OpenEpisode.open("i", "sha256:1", [finding], 100.0)
    for second in range(4):
        episode.note([finding], True, 32, 3, 100.0 + second)
    episode.note([], False, 200, sampled, 103.0 + for_s)
    return episode.over(103.0 + for_s)


@pytest.mark.parametrize(
    ("channel", "sampled", "for_s", "over"),
    [
        ("layer_slice", 200, 3.0, True),
        ("layer_slice", 20, 3.0, False),  # too few of those that could have shown it
        ("layer_slice", 20, 9.0, False),
        ("layer_slice", 20, 11.0, True),
        ("host_tail", 0, 3.0, True),  # every execution shows it
    ],
)
def test_what_only_layers_show_is_over_when_enough_layers_were_seen(
    channel: str, sampled: int, for_s: float, over: bool
) -> None:
    assert quiet(channel, sampled, for_s) is over


@pytest.mark.parametrize(
    ("channels", "step"),
    [
        (["layer_group"], True),
        (["layer_group", "isolation_forest"], True),  # its windows are odd, which is no other trouble
        (["isolation_forest"], False),
        (["layer_group", "layers_sum"], False),
    ],
)
def test_a_step_stays_one_when_its_windows_are_found_odd(channels: list[str], step: bool) -> None:
    findings = [Finding(channel, 1.0, 0.5, 99.0) for channel in channels]
    episode = OpenEpisode.open("i", "sha256:1", findings, 100.0)
    episode.note(findings, True, 32, 3, 100.0)
    assert episode.is_step is step


@pytest.mark.parametrize(("lasted_s", "over_after_s"), [(1.0, 0.6), (4.0, 1.1), (8.0, 2.1), (3600.0, 2.1)])
def test_a_pause_is_an_end_the_later_the_longer_it_has_lasted(lasted_s: float, over_after_s: float) -> None:
    finding = Finding("host_level", 1.0, 0.5, 100.0)
    episode = OpenEpisode.open("i", "sha256:1", [finding], 100.0)
    for share in range(101):
        episode.note([finding], True, 32, 0, 100.0 + lasted_s * share / 100)
    episode.note([], False, 200, 0, 100.0 + lasted_s + over_after_s - 0.2)
    assert not episode.over(100.0 + lasted_s + over_after_s - 0.2)
    assert episode.over(100.0 + lasted_s + over_after_s)


@pytest.mark.parametrize(
    ("channel", "quiet_s", "another"),
    [
        ("host_tail", 3.0, True),
        ("host_tail", 1.0, False),  # it may go on: too soon to call it another
        ("layer_slice", 3.0, False),  # the same again
    ],
)
def test_what_other_channels_show_after_a_pause_is_another_trouble(
    channel: str, quiet_s: float, another: bool
) -> None:
    slices = Finding("layer_slice", 1.0, 0.5, 99.0)
    episode = OpenEpisode.open("i", "sha256:1", [slices], 100.0)
    episode.note([slices], True, 32, 3, 100.0)
    episode.note([], False, 200, 3, 100.0 + quiet_s)
    assert episode.is_another([Finding(channel, 1.0, 0.5, 102.9)], 100.0 + quiet_s) is another
    assert not episode.is_another([], 100.0 + quiet_s)


@pytest.mark.parametrize(
    ("channels", "quiet_s", "another"),
    [
        (("spikes", "host_tail"), 6.0, True),  # slow ones in a row, long after the last rare one
        (("spikes", "end_to_end_tail"), 1.0, False),
        (("spikes",), 6.0, False),  # the next of the rare ones
        (("spikes", "isolation_forest"), 6.0, False),
        (("spikes", "layer_slice"), 6.0, True),  # and layers, long after it
    ],
)
@pytest.mark.parametrize("shown_by", [("spikes",), ("spikes", "end_to_end_tail")])
def test_slow_executions_in_a_row_are_no_part_of_rare_ones(
    channels: tuple[str, ...], quiet_s: float, another: bool, shown_by: tuple[str, ...]
) -> None:
    rare = [Finding(channel, 0.008, 0.008, 99.0) for channel in shown_by]
    episode = OpenEpisode.open("i", "sha256:1", rare, 100.0)
    episode.slow, episode.longest = 2, 4.5
    for _ in range(432):
        episode.tally.add(np.zeros(1), np.ones(1), np.ones(1))
    episode.note(rare, True, 32, 0, 100.0)
    episode.note([], False, 400, 0, 100.0 + quiet_s)
    assert not episode.over(100.0 + quiet_s)
    findings = [Finding(channel, 1.0, 0.5, 100.0 + quiet_s) for channel in channels]
    assert episode.is_another(findings, 100.0 + quiet_s) is another


@pytest.mark.parametrize(("onset_s", "begun_s"), [(91.0, 99.8), (99.9, 99.9)])
def test_counters_of_long_before_it_was_found_are_none_of_it(onset_s: float, begun_s: float) -> None:
    episode = OpenEpisode.open("i", "sha256:1", [Finding("end_to_end_tail", 1.0, 0.5, onset_s)], 100.0)
    assert episode.begun_s == begun_s


def test_slices_that_come_seconds_apart_are_one_trouble() -> None:
    slices = Finding("layer_slice", 1.0, 0.5, 99.0)
    episode = OpenEpisode.open("i", "sha256:1", [slices], 100.0)
    for second in (0.0, 0.1, 0.2, 0.3):
        episode.note([slices], True, 32, 32, 100.0 + second)
    episode.note([], False, 200, 200, 102.0)
    assert not episode.over(102.0)
    assert episode.over(102.4)


def opened(channels: str, slow: int, longest: float, lasted_s: float, sure: bool = False) -> OpenEpisode:
    findings = [Finding(channel, 1.0, 0.5, 100.0) for channel in channels.split()]
    episode = OpenEpisode.open("i", "sha256:1", findings, 100.0)
    episode.slow, episode.longest = slow, longest
    episode.note(findings, True, 32, 0, 100.0 + lasted_s)
    episode.note([], False, 32, 0, 101.5)
    episode.announce(None, sure=sure)
    return episode


@pytest.mark.parametrize(
    ("channels", "slow", "longest", "lasted_s", "told"),
    [
        ("host_tail", 9, 1.3, 0.6, False),
        ("host_tail", 10, 1.3, 0.4, False),
        ("host_tail", 10, 1.3, 0.6, True),
        ("host_tail", 3, 1.5, 0.1, False),
        ("host_tail end_to_end_tail", 4, 1.3, 0.1, False),
        ("host_tail end_to_end_tail", 4, 1.5, 0.1, True),  # far longer than any hiccup
        ("host_tail end_to_end_tail", 4, 1.3, 0.6, True),
        ("end_to_end_tail", 4, 1.3, 0.6, True),
        ("layer_slice", 0, 0.7, 0.3, False),
        ("layer_slice end_to_end_tail", 4, 0.7, 0.3, False),
        ("layer_slice", 0, 0.7, 0.6, True),
        ("isolation_forest", 0, 0.0, 0.4, False),
        ("isolation_forest", 0, 0.0, 0.6, True),
        ("layers_common", 0, 0.0, 0.0, True),
    ],
)
def test_a_hiccup_is_told_to_nobody(
    channels: str, slow: int, longest: float, lasted_s: float, told: bool
) -> None:
    assert opened(channels, slow, longest, lasted_s).announced is told


def test_what_counters_show_is_no_hiccup() -> None:
    assert opened("layer_slice", 0, 0.7, 0.3, sure=True).announced


@pytest.mark.parametrize(
    ("channels", "alone", "besides"),
    [
        (["single_layer"], True, True),
        (["single_layer", "layers_spread"], False, True),
        (["layer_slice"], False, False),
    ],
)
def test_levels_go_on_to_show_what_others_show_too(channels: list[str], alone: bool, besides: bool) -> None:
    findings = [Finding(channel, 1.0, 0.5, 99.0) for channel in channels]
    episode = OpenEpisode.open("i", "sha256:1", findings, 100.0)
    episode.note(findings, True, 32, 32, 100.0)
    assert (episode.is_step, episode.shows_steps) == (alone, besides)


@pytest.mark.parametrize(("longest", "over"), [(0.8, True), (1.6, False)])
def test_only_executions_far_out_are_waited_for_long(longest: float, over: bool) -> None:
    """Four within 120 executions, and then 400 without one, in 3 s: rare ones may be as far apart."""
    finding = Finding("host_tail", 1.0, 0.5, 100.0)
    episode = OpenEpisode.open("i", "sha256:1", [finding], 100.0)
    episode.slow, episode.longest = 4, longest
    for _ in range(120):
        episode.tally.add(np.zeros(1), np.ones(1), np.ones(1))
    episode.note([finding], True, 120, 0, 100.0)
    for _ in range(400):
        episode.tally.add(np.zeros(1), np.ones(1), np.ones(1))
    episode.note([], False, 400, 0, 103.0)
    assert episode.over(103.0) is over
