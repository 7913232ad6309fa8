"""Fits the LSTM forecaster with torch. Only `layerwatch train` imports this: torch takes seconds to load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forecast import Ewma, LstmWeights, lstm_step
from layerwatch.schemas.errors import ConfigError

_HIDDEN = 16
_LEAST_BLOCKS = 40
_LEARNING_RATE = 0.01
_LENGTH = 32  # blocks of a training sequence
_BATCH = 64
_FIT, _VALIDATE = 0.6, 0.75  # of each run: fitted on up to the first, stopped by the second, held out beyond
_CHECK_STEPS = 20


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Mean absolute one-step errors on blocks that no fit has seen."""

    blocks: int
    lstm: float
    ewma: float
    naive: float


def fit_lstm(
    runs: list[F64], progress: Callable[[int], None], steps: int = 400, seed: int = 0
) -> tuple[LstmWeights, HeldOut]:
    """Weights fitted on the beginnings of the runs, and errors on their ends (log units). `progress(steps done)`.

    Raises ConfigError when there are too few blocks.
    """
    runs = [run for run in runs if len(run) >= 8]
    if sum(map(len, runs)) < _LEAST_BLOCKS:
        raise ConfigError(
            f"{sum(map(len, runs))} healthy blocks of a second in runs of 8 are too few to fit a forecaster on "
            f"({_LEAST_BLOCKS} are needed): record longer, or name more recordings"
        )
    fit = [max(4, int(len(run) * _FIT)) for run in runs]
    validate = [max(k, int(len(run) * _VALIDATE)) for run, k in zip(runs, fit, strict=True)]
    changes = [np.diff(run[:k]) for run, k in zip(runs, fit, strict=True)]
    scale = float(np.std(np.concatenate(changes))) + 1e-3
    seen = [run[:k] for run, k in zip(runs, validate, strict=True)]
    best: tuple[float, LstmWeights] | None = None
    for step, weights in _fit([change / scale for change in changes], scale, steps, seed):
        error = _errors(weights, seen, fit).lstm
        if best is None or error < best[0]:
            best = error, weights
        progress(step)
    assert best is not None
    return best[1], _errors(best[1], runs, validate)


def _fit(changes: list[F64], scale: float, steps: int, seed: int) -> Iterator[tuple[int, LstmWeights]]:
    """Weights before the first step, where the forecast is "no change", and every 20 steps."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = np.random.default_rng(seed)
    lstm = torch.nn.LSTM(1, _HIDDEN, batch_first=True)
    head = torch.nn.Linear(_HIDDEN, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.Adam([*lstm.parameters(), *head.parameters()], _LEARNING_RATE, weight_decay=1e-4)
    for step in range(steps + 1):
        if step % _CHECK_STEPS == 0:
            yield step, weights_of(lstm, head, scale)
        batch = torch.tensor(_sequences(changes, draw), dtype=torch.float32)
        hidden, _ = lstm(batch[:, :-1, None])
        loss = torch.nn.functional.huber_loss(head(hidden)[..., 0], batch[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _sequences(changes: list[F64], draw: np.random.Generator) -> F64:
    """Random stretches of the runs, padded in front with no change."""
    lengths = np.array([len(change) for change in changes], float)
    out = np.zeros((_BATCH, _LENGTH))
    for row, run in enumerate(draw.choice(len(changes), size=_BATCH, p=lengths / lengths.sum())):
        change = changes[run]
        end = int(draw.integers(min(2, len(change)), len(change) + 1))
        part = change[max(0, end - _LENGTH) : end]
        out[row, _LENGTH - len(part) :] = part
    return out


def weights_of(lstm: torch.nn.LSTM, head: torch.nn.Linear, scale: float) -> LstmWeights:
    """torch's parameters as the arrays that the plain step runs on."""

    def array(tensor: torch.Tensor) -> F64:
        return np.array(tensor.detach().numpy(), np.float64)

    return LstmWeights(
        input=array(lstm.weight_ih_l0)[:, 0],
        recurrent=array(lstm.weight_hh_l0),
        bias=array(lstm.bias_ih_l0) + array(lstm.bias_hh_l0),
        head=array(head.weight)[0],
        head_bias=float(head.bias.detach()[0]),
        scale=scale,
    )


def _errors(weights: LstmWeights, runs: list[F64], cut: list[int]) -> HeldOut:
    """One-step errors of each run from its cut on."""
    errors: list[tuple[float, float, float]] = []
    for run, k in zip(runs, cut, strict=True):
        hidden, cell, ewma = np.zeros(weights.hidden), np.zeros(weights.hidden), Ewma()
        ewma.update(float(run[0]))
        for i in range(1, len(run)):
            last, value = float(run[i - 1]), float(run[i])
            forecast = last + float(hidden @ weights.head + weights.head_bias) * weights.scale
            if i >= k:
                errors.append((abs(value - forecast), abs(value - ewma.predict()), abs(value - last)))
            ewma.update(value)
            hidden, cell = lstm_step(weights, (value - last) / weights.scale, hidden, cell)
    means = np.mean(errors, axis=0) if errors else np.zeros(3)
    return HeldOut(len(errors), *(float(mean) for mean in means))
