"""Executions that take eight times as long now and then, among real healthy ones: one trouble, one alert."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import numpy as np
import pytest
from detection import recording

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.power.healthy import Healthy, healthy_of
from layerwatch.recording.cut import cut
from layerwatch.schemas.alerts import Alert

LEARN, SPIKED, AFTER = 3000, 5000, 3000  # executions


@lru_cache(maxsize=4)
def healthy(name: str) -> Healthy:
    return healthy_of(recording(name))


def alerts(name: str, share: float) -> tuple[float, float, list[Alert]]:
    """When the first and the last spike were, and every revision of what is more than a notice."""
    made, rng = healthy(name), np.random.default_rng(4)
    run = made.run(np.resize(np.arange(len(made)), LEARN + SPIKED + AFTER), 1_800_000_000.0)
    hit = LEARN + np.flatnonzero(rng.random(SPIKED) < share)
    run.end_to_end_ms[hit] *= 8.0
    pipeline, told = Pipeline(), []
    pipeline.manifest(made.manifest)
    for batch in cut(run):
        told += [alert for alert in pipeline.update(batch)[0] if alert.severity != "info"]
    return float(run.times_s[hit[0]]), float(run.times_s[hit[-1]]), told


def seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


@pytest.mark.parametrize("share", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("name", ["resnet50-int8-h200", "resnet50-h200", "shape-jump-h200", "rebuild-h200"])
def test_they_are_one_alert_that_lasts_as_long_as_they_do(name: str, share: float) -> None:
    first_s, last_s, told = alerts(name, share)
    assert len({alert.id for alert in told}) == 1, [alert.summary for alert in told if alert.revision == 1]
    assert first_s < seconds(told[0].opened_at) < last_s
    closed_at = told[-1].closed_at
    assert closed_at is not None
    assert last_s < seconds(closed_at)
