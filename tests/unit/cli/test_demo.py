"""What the demo counts, beside whatever else its Kafka has."""

from __future__ import annotations

import msgspec
from detection import recording

from layerwatch.cli.demo import judged
from layerwatch.detectors.pipeline import Pipeline


def test_alerts_of_other_services_in_its_kafka_are_no_false_alarms() -> None:
    made = recording("resnet50-h200")
    pipeline = Pipeline()
    for manifest in made.manifests:
        pipeline.manifest(manifest)
    own = [alert for batch in made for alert in pipeline.update(batch)[0]]
    long_ago = "2026-01-01T00:00:00.000Z"
    others = msgspec.structs.replace(
        own[0], id="a-0", service="bert-qa", started_at=long_ago, opened_at=long_ago
    )
    found = judged(made, [others, *own])
    assert found.false_alarms == []
    assert all(verdict.caught for verdict in found.faults)
