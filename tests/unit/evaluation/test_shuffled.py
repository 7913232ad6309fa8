"""The same phases in another order."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from detection import models, recording

from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.run import evaluate
from layerwatch.evaluation.shuffled import joined, shuffled
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.errors import ConfigError

NAME = "resnet50-h200"


def end_to_end_ms(made: Recording, phase: Phase) -> list[float]:
    times_s = np.concatenate([np.frombuffer(batch.times_s) for batch in made])
    values = np.concatenate([np.frombuffer(batch.end_to_end_ms, "<f4") for batch in made])
    inside = (times_s >= phase.start_s - 1e-6) & (times_s <= phase.end_s + 1e-6)
    return [float(value) for value in values[inside]]


def test_every_phase_keeps_its_executions_and_faults_keep_a_healthy_neighbour() -> None:
    made = recording(NAME)
    other = shuffled(made, 1)
    assert [p.name for p in other.phases] != [p.name for p in made.phases]
    assert sorted(p.name for p in other.phases) == sorted(p.name for p in made.phases)
    assert other.phases[0].healthy
    assert all(one.healthy or next_one.healthy for one, next_one in itertools.pairwise(other.phases))
    by_name = {phase.name: phase for phase in made.phases}
    for phase in other.phases:
        if not phase.healthy:
            assert end_to_end_ms(other, phase) == pytest.approx(end_to_end_ms(made, by_name[phase.name]))


def test_a_cold_start_comes_first_or_not_at_all() -> None:
    made = recording(NAME)
    first, second = made.phases[:2]
    assert end_to_end_ms(joined(made, [first, second], "same"), first) == end_to_end_ms(made, first)
    other = joined(made, [second, first], "other")
    assert other.phases[1].end_s - other.phases[1].start_s == pytest.approx(
        first.end_s - first.start_s - 1.0, abs=0.01
    )
    assert end_to_end_ms(made, first)[0] not in end_to_end_ms(other, other.phases[1])


def test_messages_are_in_order_and_the_same_seed_gives_the_same() -> None:
    other = shuffled(recording(NAME), 2)
    assert [batch.sequence for batch in other] == list(range(len(other.batches)))
    for one, next_one in itertools.pairwise(other):
        assert one.window_end_s <= next_one.window_start_s + 1e-6
    assert other == shuffled(recording(NAME), 2)
    assert other != shuffled(recording(NAME), 3)


def test_the_time_to_learn_varies() -> None:
    lengths = {
        round(p.end_s - p.start_s, 1) for s in range(4) for p in shuffled(recording(NAME), s).phases[:1]
    }
    assert len(lengths) == 4


def test_faults_are_still_caught_in_another_order() -> None:
    judgement = evaluate(shuffled(recording(NAME), 1), Condition(), models()).judgement
    assert sum(verdict.caught for verdict in judgement.faults) >= 5
    assert judgement.false_alarms == []


def test_without_a_healthy_phase_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ConfigError, match="no healthy phase of 500 executions"):
        shuffled(replace(recording(NAME), phases=[]), 0)
