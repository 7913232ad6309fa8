"""A fault without the channel that caught it first."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from detection import models, recording

from layerwatch.detectors.episode import KIND_OF_CHANNEL
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.run import alerts_of
from layerwatch.evaluation.safety_net import Net, safety_net

NAME = "resnet50-h200"


@lru_cache(maxsize=1)
def nets() -> list[Net]:
    return safety_net(recording(NAME), Condition(), models(), lambda runs: None)


@pytest.mark.parametrize("channel", ["layer_slice", "isolation_forest", "host_tail"])
def test_a_silenced_channel_is_not_heard(channel: str) -> None:
    alerts, _ = alerts_of(recording(NAME), replace(models(), silenced=frozenset({channel})))
    assert alerts
    assert channel not in {detector.name for alert in alerts for detector in alert.detectors}


def test_with_every_channel_silenced_nothing_is_found() -> None:
    assert alerts_of(recording(NAME), replace(models(), silenced=frozenset(KIND_OF_CHANNEL))) == ([], 0)


def test_every_fault_is_looked_at_without_its_own_first_channel() -> None:
    assert [net.whole.phase.name for net in nets()] == [
        p.name for p in recording(NAME).phases if not p.healthy
    ]
    for net in nets():
        assert net.first in KIND_OF_CHANNEL
        assert net.caught_by != net.first
        assert net.forest_needed <= net.without_first.caught


def test_most_faults_are_still_caught_without_a_false_alarm() -> None:
    assert sum(net.without_first.caught for net in nets()) >= 5
    assert {net.false_alarms for net in nets()} == {0}
