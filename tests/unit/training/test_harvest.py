"""What models are fitted on."""

from __future__ import annotations

import inspect

import msgspec
import numpy as np
import pytest
from detection import MANIFEST, message, models, recording

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.pooled import NAMES
from layerwatch.detectors.scorer import Scorer
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.fit_forest import fit_forest
from layerwatch.training.harvest import gathered, harvest


def done(_: int) -> None:
    """Nobody watches."""


def windows_of(name: str) -> F64:
    made = recording(name)
    return gathered(harvest(made.manifests, made.batches, done)).all_windows()


def test_a_recording_yields_windows_and_runs_of_levels() -> None:
    made = recording("resnet50-h200")
    steps: list[int] = []
    got = gathered(harvest(made.manifests, made.batches, steps.append))
    windows = got.all_windows()
    assert len(windows) > 64
    assert windows.shape[1] == len(NAMES)
    assert np.isfinite(windows).all()
    assert list(got.windows) == [made.manifests[0].engine]
    assert sum(len(run) for run in got.seconds) > 40
    assert len(got.seconds) > 2  # an episode ends a run
    assert steps == list(range(1, len(made.batches) + 1))


def test_what_was_injected_is_not_in_the_windows() -> None:
    """Labels play no part, so it is the detectors that keep faults out."""
    assert "phases" not in inspect.signature(harvest).parameters
    widest = np.abs(windows_of("resnet50-h200")).max(1)
    assert np.quantile(widest, 0.9) < 12


def test_a_heartbeat_yields_nothing() -> None:
    """What the message before it held must not count twice."""
    made = recording("resnet50-h200")
    scorer = Scorer({m.engine: m for m in made.manifests})
    held = 0
    for batch in made.batches[:60]:
        scorer.update(batch)
        held = len(scorer.healthy()) or held
    assert held
    last = made.batches[59]
    heartbeat = message(0, 0, engine=last.engine, instance=last.instance, shapes=[], layers=[], counters=b"")
    scorer.update(
        msgspec.structs.replace(
            heartbeat, window_start_s=last.window_end_s, window_end_s=last.window_end_s + 1
        )
    )
    assert scorer.healthy() == []


def test_a_forest_that_was_fitted_knows_the_windows_and_what_is_far_from_them() -> None:
    windows = windows_of("resnet50-h200")
    forest = fit_forest(windows)
    healthy = forest.score(windows[1::2])
    assert healthy.max() < forest.threshold < 1
    assert forest.score(np.full((1, len(NAMES)), 30.0))[0] > np.quantile(healthy, 0.95)
    assert models().forest is not forest


def test_the_same_windows_give_the_same_forest() -> None:
    windows = np.random.default_rng(0).standard_normal((80, len(NAMES)))
    assert fit_forest(windows).score(windows).tolist() == fit_forest(windows).score(windows).tolist()


@pytest.mark.parametrize("count", [0, 1, 63])
def test_too_few_windows_are_refused_with_what_to_do(count: int) -> None:
    with pytest.raises(ConfigError, match="record longer, or name more recordings"):
        fit_forest(np.zeros((count, len(NAMES))))


def test_messages_without_layers_yield_nothing_to_fit_on() -> None:
    batches = [message(i, layers=[]) for i in range(30)]
    assert gathered(harvest([MANIFEST], batches, done)).windows == {}
