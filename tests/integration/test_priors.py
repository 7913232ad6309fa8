"""What one instance has learnt of a build reaches a new one through Kafka."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from stack import RECOVERY_S, RESNET, Service, load, patient_settings, read, running, send
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting.settings import Settings
from layerwatch.recording.recording import Recording
from layerwatch.schemas.baselines import BaselineRecord
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.signals import Signal
from layerwatch.schemas.topics import BASELINES, SIGNALS

pytestmark = pytest.mark.kafka

LATER_S = 1000.0


def later(recording: Recording, instance: str) -> Recording:
    """The same executions, some time on, by another instance."""
    batches = [
        msgspec.structs.replace(
            batch,
            instance=instance,
            window_start_s=batch.window_start_s + LATER_S,
            window_end_s=batch.window_end_s + LATER_S,
            times_s=(np.frombuffer(batch.times_s) + LATER_S).tobytes(),
            counters=b"",
        )
        for batch in recording
    ]
    return replace(recording, batches=batches)


def test_a_new_instance_scores_at_once_after_a_restart_too(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    recording = load(RESNET, "priors", "priors-0")
    settings = patient_settings(fresh_kafka, tmp_path)
    with running(Service("processor", settings)):
        send(settings, recording, 0, 30)
        wait_until(lambda: read(settings, BASELINES), "the build is told", RECOVERY_S)
    record = Reader(BaselineRecord).decode(read(settings, BASELINES)[0].value or b"")
    assert record.build == recording.manifests[0].engine
    assert record.service == "priors"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running(Service("processor", patient_settings(fresh_kafka, elsewhere))):
        send(settings, later(recording, "priors-1"), 0, 4)
        wait_until(lambda: told(settings), "the new instance is heard of", RECOVERY_S)
    assert not told(settings)[0].warming_up


def told(settings: Settings) -> list[Signal]:
    signals = [Reader(Signal).decode(r.value or b"") for r in read(settings, SIGNALS)]
    return [signal for signal in signals if signal.instance == "priors-1"]
