"""Sampling 1 % and raising it on suspicion finds what sampling everything finds; each fault as a clip of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from detection import NAMES, models, recording

from layerwatch.evaluation.alone import alone
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.run import Evaluation, evaluate
from layerwatch.recording.recording import Recording
from layerwatch.schemas.errors import ConfigError

OBEYING = Condition(sample=0.01, obeys=True)
#: Three of a hundred executions; a block on few inputs.
SLOWER_TO_SHOW = {"cotenant_burst", "rebuild_slow"}


def clips() -> dict[str, Recording]:
    return {clip.name: clip for name in NAMES for clip in alone(recording(name))}


@lru_cache(maxsize=20)
def evaluation(clip: str) -> Evaluation:
    return evaluate(clips()[clip], OBEYING, models())


@pytest.mark.parametrize("clip", clips())
def test_every_fault_is_found_with_its_cause_from_few_samples_and_nothing_else_is(clip: str) -> None:
    got = evaluation(clip)
    (fault,) = got.judgement.faults
    assert fault.caught
    assert fault.in_time or fault.phase.name in SLOWER_TO_SHOW
    assert fault.cause_right
    assert got.judgement.false_alarms == []
    assert got.obeyed is not None
    (raised,) = got.obeyed.raised
    assert raised.before in ("baseline", "canary")  # canary where a recording is too short to learn from
    if fault.phase.name not in SLOWER_TO_SHOW:
        assert raised.samples <= 80  # a canary's first message of 64 is told as a whole


def test_healthy_stretches_are_sampled_little() -> None:
    seen = [evaluation(clip).obeyed for clip in clips() if "resnet50-h200" in clip]
    assert len(seen) == 6
    for obeyed in seen:
        assert obeyed is not None
        assert obeyed.suspicions <= 1  # a benign change of shapes, which is busier: in and out
        assert obeyed.evidence_s < 30
        assert obeyed.canary_s < 20  # then a single slow execution is reason to look at all for 10 s
        assert obeyed.sampled < 0.45 * obeyed.executions  # of 40 s; in 11 minutes it is 4 %


def test_a_clip_holds_all_that_is_healthy_then_its_fault() -> None:
    made = recording("resnet50-h200")
    found = alone(made)
    assert [clip.phases[-2].name for clip in found] == [p.name for p in made.phases if not p.healthy]
    for clip in found:
        assert [phase.healthy for phase in clip.phases[:-2]] == [True] * (len(clip.phases) - 2)
        assert [batch.sequence for batch in clip] == list(range(len(clip.batches)))


def test_without_a_fault_there_is_no_clip() -> None:
    made = recording("resnet50-h200")
    with pytest.raises(ConfigError, match="no healthy phase and fault"):
        alone(replace(made, phases=[phase for phase in made.phases if phase.healthy]))
