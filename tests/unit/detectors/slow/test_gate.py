"""When p-values are not independent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.slow.gate import Gate

STREAMS = 60
NONE = np.zeros(STREAMS, bool)


def fed(gate: Gate, p: np.ndarray, alarm: np.ndarray | None = None) -> Gate:
    for row in p:
        gate.update(row, NONE if alarm is None else alarm)
    return gate


def autoregression(r: float, blocks: int = 600, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    x = np.zeros((blocks, STREAMS))
    for i in range(1, blocks):
        x[i] = r * x[i - 1] + (1 - r * r) ** 0.5 * draw.standard_normal(STREAMS)
    return np.asarray(norm.cdf(x))


def test_independent_p_values_are_believed() -> None:
    assert fed(Gate(STREAMS), autoregression(0.0, 2000)).degraded.mean() < 0.02


def test_dependent_ones_are_not_and_are_again_once_they_have_passed() -> None:
    gate = fed(Gate(STREAMS), autoregression(0.5))
    assert gate.degraded.all()
    fed(gate, autoregression(0.0, 600, seed=2))
    assert gate.degraded.mean() < 0.15


def test_a_level_that_wanders_slowly_under_independent_noise_is_seen() -> None:
    slow = norm.ppf(autoregression(0.98))
    p = norm.cdf(0.7 * slow + 0.7 * np.random.default_rng(5).standard_normal(slow.shape))
    assert fed(Gate(STREAMS), p).degraded.mean() > 0.9


def test_a_fault_does_not_degrade_the_stream_that_shows_it() -> None:
    gate = fed(Gate(STREAMS), autoregression(0.0))
    before = gate.degraded.copy()
    fed(gate, np.full((20, STREAMS), 1e-3))
    gate.update(np.full(STREAMS, np.nan), ~NONE)
    fed(gate, autoregression(0.0, 64, seed=3))
    assert (gate.degraded == before).mean() > 0.95


@pytest.mark.parametrize("cut", [3, 290, 300])
def test_a_restart_changes_nothing(cut: int) -> None:
    p = autoregression(0.3, 700)
    gate = fed(Gate(STREAMS), p[:cut])
    other = Gate.restore(unpack(pack(gate.state())))
    assert (fed(gate, p[cut:]).degraded == fed(other, p[cut:]).degraded).all()
