"""SIGKILL of the decision centre at random moments, and a fault through Kafka in enforce."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from deciding import POLICY
from decision_kills import kill_and_compare
from stack import (
    RESNET,
    Service,
    decisions,
    load,
    patient_settings,
    running,
    send,
    without_repeats,
)
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.clips import clips_of

pytestmark = pytest.mark.kafka


def test_killed_three_times_it_ends_in_the_state_that_an_unbroken_run_reaches(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = patient_settings(fresh_kafka, tmp_path, decision={"mode": "enforce"})
    centre = Service("decision", settings)
    with running(centre):
        centre.wait_ready()
        for number in range(3):
            kill_and_compare(settings, centre, f"killed-{number}", random.Random(number), print)


def test_a_fault_through_kafka_leads_to_the_decision_that_it_leads_to_offline(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    whole = load(RESNET, "clip", "clip-0")
    clip = next(clip for clip in clips_of(whole) if clip.phase.name == "cotenant_h2d")
    pipeline = Pipeline(rules=Rules(POLICY, "enforce"))
    for manifest in clip.recording.manifests:
        pipeline.manifest(manifest)
    expected = [d for batch in clip.recording for d in pipeline.update(batch)[1]] + pipeline.finish()[1]
    assert [d.action for d in expected if d.revision == 1] == ["scale_out"]
    settings = patient_settings(fresh_kafka, tmp_path, decision={"mode": "enforce"})
    with running(Service("processor", settings), Service("decision", settings)):
        send(settings, clip.recording)
        ends = {d.id for d in expected if d.status != "active"}
        wait_until(
            lambda: ends <= {d.id for d in decisions(settings, "clip") if d.status != "active"},
            "the decision has ended",
            60,
        )
    software = {"issued_at": "", "expires_at": "", "outcome": None}
    assert [msgspec.structs.replace(d, **software) for d in without_repeats(decisions(settings, "clip"))] == [
        msgspec.structs.replace(d, **software) for d in expected
    ]
