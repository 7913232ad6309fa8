"""Recordings that were made after the detectors: a MobileNet, whose host takes four times as long as its layers, another encoder, a U-Net,
a vision transformer of three layers, an LSTM of sixteen.

`unseen/*-h200` were recorded on an H200 in the way of the others, every execution profiled synchronously, with the same
faults; the U-Net's with two more, a busy Python thread and a second context on a stream of its own; the transformer's with a neighbour
that grows, one of small kernels, and memory that is allocated and freed all the time (what starves its host slows no request); the LSTM's with another engine beside it, pauses
of the garbage collector, and two that no request feels: processes forked all the time, and copies from pageable memory.
"""

from __future__ import annotations

import pytest
from detection import DATA, models

from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.run import evaluate
from layerwatch.evaluation.totals import totals_of
from layerwatch.recording.npz import read_npz

NAMES = ("mobilenet-h200", "encoder4-h200", "unet-h200", "vit-h200", "rnn-h200")


@pytest.mark.parametrize(
    ("condition", "caught", "in_time", "causes_right", "alerts"),
    [
        (Condition(), 37, 36, 33, 1),
        (Condition(sample=0.05), 33, 31, 30, 2),
        (Condition(sample=0.01), 23, 23, 21, 2),
        (Condition(sample=0.01, obeys=True), 36, 32, 32, 3),
    ],
    ids=str,
)
def test_what_nobody_chose_the_detectors_for(
    condition: Condition, caught: int, in_time: int, causes_right: int, alerts: int
) -> None:
    recordings = [read_npz(DATA / "unseen" / f"{name}.npz") for name in NAMES]
    got = totals_of([evaluate(made, condition, models()) for made in recordings])
    assert got.faults == 40
    assert got.caught >= caught
    assert got.in_time >= in_time
    assert got.causes_right >= causes_right
    assert got.false_alarms == 0
    assert got.most_alerts <= alerts
