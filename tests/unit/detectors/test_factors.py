"""What layers share is taken out, what is a layer's own stays."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64, pack, unpack
from layerwatch.detectors.factors import SharedFactors

LAYERS = 60


def learnt(blocks: int = 60, seed: int = 0) -> tuple[SharedFactors, F64, np.random.Generator]:
    """Factors of layers that two hidden states move, each in its own way."""
    draw = np.random.default_rng(seed)
    directions = draw.normal(0, 1, (2, LAYERS))
    factors = SharedFactors(LAYERS)
    for _ in range(blocks):
        factors.learn(draw.normal(0, 0.1, 2) @ directions + draw.normal(0, 0.01, LAYERS))
    return factors, directions, draw


def test_what_is_shared_is_taken_out() -> None:
    factors, directions, draw = learnt()
    deviation = np.array([0.2, -0.15]) @ directions + draw.normal(0, 0.01, LAYERS)
    assert deviation.std() > 0.2
    assert factors.rest(deviation[None], np.ones((1, LAYERS))).std() < 0.02


@pytest.mark.parametrize("slow", [[7], list(range(12))])
def test_what_is_a_layers_own_stays(slow: list[int]) -> None:
    factors, directions, _ = learnt()
    deviation = np.array([0.1, 0.1]) @ directions
    deviation[slow] += 0.26
    (rest,) = factors.rest(deviation[None], np.ones((1, LAYERS)))
    assert rest[slow] == pytest.approx(0.26, abs=0.03)
    assert np.abs(np.delete(rest, slow)).max() < 0.03


@pytest.mark.parametrize("layers", [3, 7])
def test_of_few_layers_what_one_does_on_its_own_stays(layers: int) -> None:
    draw = np.random.default_rng(1)
    factors = SharedFactors(layers)
    for _ in range(60):
        factors.learn(draw.normal(0, 0.1) + draw.normal(0, 0.05, layers))
    deviation = np.zeros((1, layers))
    deviation[0, 1] = 0.26
    assert factors.rest(deviation, np.ones((1, layers)))[0, 1] > 0.2


def test_before_anything_was_learnt_nothing_is_taken_out() -> None:
    deviation = np.linspace(-1, 1, LAYERS)[None]
    assert SharedFactors(LAYERS).rest(deviation, np.ones((1, LAYERS))) is deviation


def test_layers_without_weight_have_no_say() -> None:
    factors, directions, _ = learnt()
    deviation, weight = np.array([0.1, 0.0]) @ directions, np.ones(LAYERS)
    deviation[:20] += 5.0
    weight[:20] = 0.0
    assert np.abs(factors.rest(deviation[None], weight[None])[0, 20:]).max() < 0.02


def test_what_is_restored_takes_out_the_same() -> None:
    factors, directions, draw = learnt()
    back = SharedFactors.restore(unpack(pack(factors.state())))
    for _ in range(5):
        block = draw.normal(0, 0.1, 2) @ directions
        factors.learn(block)
        back.learn(block)
    deviation = np.array([0.3, 0.3]) @ directions
    weight = np.ones(LAYERS)
    found, expected = (f.rest(deviation[None], weight[None]) for f in (back, factors))
    assert found == pytest.approx(expected, abs=2e-3)
