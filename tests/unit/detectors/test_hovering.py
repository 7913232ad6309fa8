"""Troubles about as large as a threshold, among real healthy executions: one alert, not one each time it is passed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from detection import recording

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.power.healthy import healthy_of
from layerwatch.recording.cut import Run, cut
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.times import unix_s

LEARN, TROUBLED, AFTER = 3000, 6000, 3000  # executions

Trouble = Callable[[Run, slice], None]


def _host(factor: float) -> Trouble:
    """Every execution takes so much longer, and its layers as long as before."""

    def inject(run: Run, troubled: slice) -> None:
        run.end_to_end_ms[troubled] *= factor

    return inject


def _all_layers(factor: float) -> Trouble:
    def inject(run: Run, troubled: slice) -> None:
        for table in run.layers:
            hit = np.flatnonzero((table.rows >= troubled.start) & (table.rows < troubled.stop))
            excess_ms = table.times_ms[hit] * np.float32(factor - 1)
            table.times_ms[hit] += excess_ms
            run.end_to_end_ms[table.rows[hit]] += excess_ms.sum(axis=1)

    return inject


def _alerts(name: str, trouble: Trouble) -> tuple[float, float, list[Alert]]:
    """When the trouble began and ended, and every revision of what is more than a notice."""
    made = healthy_of(recording(name))
    run = made.run(np.resize(np.arange(len(made)), LEARN + TROUBLED + AFTER), 1_800_000_000.0)
    troubled = slice(LEARN, LEARN + TROUBLED)
    trouble(run, troubled)
    pipeline, told = Pipeline(), []
    pipeline.manifest(made.manifest)
    for batch in cut(run):
        told += [alert for alert in pipeline.update(batch)[0] if alert.severity != "info"]
    return float(run.times_s[troubled.start]), float(run.times_s[troubled.stop]), told


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("shape-jump-h200", _host(1.8)),
        ("resnet50-h200", _host(1.8)),
        ("rebuild-h200", _host(1.7)),
        ("rebuild-h200", _all_layers(1.25)),
        ("shape-jump-h200", _all_layers(1.25)),
    ],
)
def test_what_hovers_about_a_threshold_is_one_alert_that_ends_soon_after_it(
    name: str, trouble: Trouble
) -> None:
    begun_s, over_s, told = _alerts(name, trouble)
    assert len({alert.id for alert in told}) == 1, [alert.summary for alert in told if alert.revision == 1]
    assert begun_s < unix_s(told[0].opened_at) < begun_s + 5.0
    assert told[-1].closed_at is not None
    assert unix_s(told[-1].closed_at) < over_s + 3.0


def _hiccup(slow: int, executions: int) -> Trouble:
    """So many of some executions take three times as long, once."""

    def inject(run: Run, troubled: slice) -> None:
        run.end_to_end_ms[troubled.start : troubled.start + executions : executions // slow] *= 3.0

    return inject


@pytest.mark.parametrize(("slow", "executions", "told"), [(4, 36, 0), (12, 36, 0), (60, 240, 1)])
def test_a_hiccup_of_less_than_half_a_second_is_told_to_nobody(slow: int, executions: int, told: int) -> None:
    _, _, alerts = _alerts("resnet50-h200", _hiccup(slow, executions))
    assert len({alert.id for alert in alerts}) == told
