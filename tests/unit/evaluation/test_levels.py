"""The shipped recordings: results must not fall behind what they were. Raise the numbers when the detectors improve."""

from __future__ import annotations

from functools import lru_cache

import pytest
from detection import NAMES, models, recording

from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.run import Evaluation, evaluate
from layerwatch.evaluation.totals import Totals, totals_of

ALL_LAYERS = Condition()


@lru_cache(maxsize=20)
def evaluation(name: str, condition: Condition = ALL_LAYERS) -> Evaluation:
    return evaluate(recording(name), condition, models())


def totals(condition: Condition) -> Totals:
    return totals_of([evaluation(name, condition) for name in NAMES])


@pytest.mark.parametrize(
    ("condition", "caught", "in_time", "causes_right"),
    [
        (ALL_LAYERS, 12, 12, 12),
        (Condition(sample=0.05), 10, 10, 10),
        (Condition(sample=0.01), 7, 7, 7),
        (Condition(sample=0.01, obeys=True), 12, 10, 12),
        (Condition(counters=False), 12, 12, 12),
    ],
    ids=str,
)
def test_no_fault_is_lost(condition: Condition, caught: int, in_time: int, causes_right: int) -> None:
    got = totals(condition)
    assert got.faults == 12
    assert got.caught >= caught
    assert got.in_time >= in_time
    assert got.causes_right >= causes_right
    assert got.false_alarms == 0


def test_one_trouble_costs_few_alerts() -> None:
    assert totals(ALL_LAYERS).most_alerts <= 2


@pytest.mark.parametrize("name", NAMES)
def test_naive_detectors_are_no_straw_men_and_yet_no_better(name: str) -> None:
    ours = evaluation(name)
    caught = sum(verdict.caught for verdict in ours.judgement.faults)
    for naive in ours.naive:
        better = naive.caught > caught and naive.false_alarms <= len(ours.judgement.false_alarms)
        assert not better, naive


def test_naive_detectors_catch_what_is_plain_to_see() -> None:
    caught = {naive.name: naive.caught for naive in evaluation("resnet50-h200").naive}
    assert min(caught.values()) >= 3, caught
    assert len(caught) == 4
