from __future__ import annotations

import numpy as np
import pytest
from detection import DATA, models

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.detectors.shape_change import ShapeChange
from layerwatch.evaluation.shuffled import joined
from layerwatch.recording.npz import read_npz


def learnt(changed_ms: float, unchanged_ms: float, executions: int = 400) -> ShapeChange:
    """Of shapes that take 3 ms, four of five times another one than before."""
    change = ShapeChange()
    changed = (np.arange(executions) % 5 > 0).astype(np.int64)
    change.learn(np.where(changed, changed_ms, unchanged_ms), np.full(executions, 3.0), changed)
    return change


def test_what_a_change_costs_is_learnt_and_left_out_of_what_the_shape_takes() -> None:
    change = learnt(5.5, 2.9)
    both = np.array([0, 1])
    assert change.expected_ms(np.full(2, 3.0), both) == pytest.approx([2.9, 5.5])
    assert change.without(np.array([2.9, 5.5]), both) == pytest.approx([3.0, 3.0])


def test_a_change_makes_nothing_cheaper() -> None:
    change = learnt(2.0, 4.0)
    assert change.expected_ms(np.full(2, 3.0), np.array([0, 1])) == pytest.approx([3.0, 3.0])


def test_a_change_that_is_rare_may_cost_as_much_as_all_the_rest() -> None:
    change = ShapeChange()
    change.learn(np.full(400, 3.0), np.full(400, 3.0), np.zeros(400, np.int64))
    assert change.expected_ms(np.full(2, 3.0), np.array([0, 1])) == pytest.approx([3.0, 6.0])


def test_a_mix_of_shapes_after_one_shape_alone_is_no_trouble() -> None:
    """Its executions take twice as long: of the MobileNet, 2.9 ms while the shape stays the same, and 5.5 where it does not."""
    made = read_npz(DATA / "unseen" / "mobilenet-h200.npz")
    alone = [phase for phase in made.phases if phase.name == "shape_shift_benign"]
    mixed = [phase for phase in made.phases if phase.name == "normal"]
    stretches = joined(made, [*alone, *mixed], "one shape, then all")
    pipeline = Pipeline(models())
    for manifest in stretches.manifests:
        pipeline.manifest(manifest)
    alerts = [alert for batch in stretches for alert in pipeline.update(batch)[0]]
    assert [alert.summary for alert in alerts if alert.severity != "info"] == []
