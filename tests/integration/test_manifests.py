"""Runtimes of one engine that have each seen other optimization profiles: the processor puts their manifests together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from stack import (
    SHAPE_JUMP,
    Service,
    alerts,
    load,
    offline,
    patient_settings,
    running,
    send,
    wait_for_decisions,
    without_repeats,
)

from layerwatch.broker.local import LocalBroker
from layerwatch.recording.recording import Recording

pytestmark = pytest.mark.kafka


def test_manifests_of_single_profiles_are_as_good_as_a_whole_one(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    whole = load(SHAPE_JUMP, "parts", "parts-0")
    (manifest,) = whole.manifests
    parts = [msgspec.structs.replace(manifest, profiles=[profile]) for profile in manifest.profiles]
    assert len(parts) == 2
    settings = patient_settings(fresh_kafka, tmp_path)
    expected = offline(whole)
    with running(Service("processor", settings), Service("decision", settings)):
        send(settings, Recording(whole.name, parts, whole.batches))
        wait_for_decisions(settings, "parts", expected)
    assert without_repeats(alerts(settings, "parts")) == expected.alerts
