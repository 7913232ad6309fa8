"""A second trouble comes while an alert of another is open."""

from __future__ import annotations

from detection import DATA

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.shuffled import joined
from layerwatch.recording.npz import read_npz


def test_an_alert_that_becomes_critical_names_what_made_it_so() -> None:
    """A neighbour on the GPU, and then a Python thread that holds the interpreter's lock: executions take 100 times as long."""
    made = read_npz(DATA / "unseen" / "unet-h200.npz")
    phases = {phase.name: phase for phase in reversed(made.phases)}
    both = joined(made, [phases[name] for name in ("normal", "cotenant_compute", "gil_hog")], "both")
    pipeline = Pipeline()
    for manifest in both.manifests:
        pipeline.manifest(manifest)
    told = [alert for batch in both for alert in pipeline.update(batch)[0]]
    assert len({alert.id for alert in told}) == 1
    causes = [(alert.severity, alert.causes[0].cause) for alert in told]
    assert causes[0] == ("warning", "gpu_contention")
    assert ("critical", "interpreter_lock") in causes
    assert ("critical", "gpu_contention") not in causes
