"""INT8 tensors that leave their calibrated range."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layerwatch.detectors.batch import Precision
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.precision_watch import PrecisionWatch
from layerwatch.evaluation.run import alerts_of
from layerwatch.evaluation.verdict import judge
from layerwatch.recording.npz import read_npz

INT8 = Path(__file__).resolve().parents[2] / "data" / "resnet50-int8-h200.npz"


def step(
    watch: PrecisionWatch, clipped: list[float], rows: int, start_s: float, error: float = 0.002
) -> list[Finding]:
    block = Precision(
        np.arange(rows), np.tile(np.array(clipped, np.float32), (rows, 1)), np.full(rows, error)
    )
    return watch.step(start_s + np.arange(rows) / 10.0, block)


def test_nothing_is_said_before_a_hundred_executions_were_looked_at() -> None:
    assert step(PrecisionWatch(), [0.5, 0.5], 99, 0.0) == []


def test_a_tensor_that_clips_ten_times_as_much_as_usual_is_found_and_named() -> None:
    watch = PrecisionWatch()
    step(watch, [0.001, 0.0001], 100, 0.0)
    (finding,) = step(watch, [0.001, 0.04], 20, 10.0)
    assert (finding.channel, watch.worst, finding.onset_s) == ("clipping", 1, 10.0)


def test_a_tensor_that_always_clips_a_little_is_no_news() -> None:
    watch = PrecisionWatch()
    step(watch, [0.02, 0.0001], 100, 0.0)
    assert step(watch, [0.06, 0.004], 20, 10.0) == []


def test_a_few_odd_inputs_are_not_enough() -> None:
    watch = PrecisionWatch()
    step(watch, [0.0001], 100, 0.0)
    assert step(watch, [0.3], 9, 10.0) == []


def test_a_restart_changes_nothing() -> None:
    watch = PrecisionWatch()
    step(watch, [0.0001], 100, 0.0)
    step(watch, [0.3], 9, 10.0)
    again = PrecisionWatch.restore(watch.state())
    assert step(again, [0.3], 5, 11.0) == step(watch, [0.3], 5, 11.0) != []


def test_each_drift_of_the_recorded_inputs_is_found_and_nothing_else() -> None:
    recording = read_npz(INT8)
    judgement = judge(recording.phases, alerts_of(recording)[0])
    assert [(v.phase.name, v.caught, v.cause_right) for v in judgement.faults] == [
        (name, True, True) for name in ("input_x2", "input_x4", "input_x8", "one_channel_x6")
    ]
    assert judgement.false_alarms == []
