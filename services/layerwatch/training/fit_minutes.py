"""Fits the LSTM that forecasts levels of a minute, with torch. Only `layerwatch train` imports this: torch takes seconds to load.

It reads and says what it does in the slow path (`detectors.slow.forecasts`): how far off an EWMA is, over the mean absolute change
between that stream's blocks, so that one model serves streams of any noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from layerwatch.detectors.arrays import F64, Bools, Ints
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.slow import forecasts
from layerwatch.schemas.errors import ConfigError
from layerwatch.training.fit_lstm import HeldOut, weights_of

_HIDDEN = 16
_LEAST_RUN = 120  # blocks: two hours
_LEAST_BLOCKS = 1440
_LENGTH = 72  # blocks of a training sequence; the shortest run's beginning has as many
_BATCH = 64
_LEARNING_RATE = 0.005
_FIT, _VALIDATE = 0.6, 0.75  # of each run: fitted on up to the first, stopped by the second, held out beyond
_CHECK_STEPS = 50


@dataclass(frozen=True, slots=True)
class _Runs:
    """All runs side by side, the shorter ones filled up with zeros."""

    inputs: F64  # [runs, longest] how far off the EWMA was
    targets: F64  # [runs, longest] how far off it will be; of a run's last block that is not known
    naive: F64  # [runs, longest] how far off it would be if nothing changed
    lengths: Ints  # [runs]

    def between(self, start: float, end: float) -> Bools:
        """[runs, longest] that lie between two shares of their run and know what came next."""
        at = np.arange(self.inputs.shape[1])
        lengths = self.lengths[:, None]
        known: Bools = (at >= (lengths * start).astype(int)) & (
            at < np.minimum((lengths * end).astype(int), lengths - 1)
        )
        return known


def fit_minutes(
    runs: Sequence[F64], progress: Callable[[int], None], steps: int = 1500, seed: int = 0
) -> tuple[LstmWeights, HeldOut]:
    """Weights fitted on the beginnings of the runs, and errors on their ends, over each stream's usual change. `progress(steps done)`.

    Raises ConfigError when there are too few blocks.
    """
    long = [run for run in runs if len(run) >= _LEAST_RUN]
    if sum(map(len, long)) < _LEAST_BLOCKS:
        raise ConfigError(
            f"{sum(map(len, long))} healthy minutes in runs of {_LEAST_RUN} are too few to fit a forecaster on "
            f"({_LEAST_BLOCKS} are needed, all streams counted): let instances run for longer"
        )
    prepared = _prepared(long)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = np.random.default_rng(seed)
    lstm = torch.nn.LSTM(1, _HIDDEN, batch_first=True)
    head = torch.nn.Linear(_HIDDEN, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    parameters = [*lstm.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, _LEARNING_RATE)
    judged = prepared.between(_FIT, _VALIDATE)
    best: tuple[float, LstmWeights] | None = None
    for step in range(steps + 1):
        if step % _CHECK_STEPS == 0:
            weights = weights_of(lstm, head, 1.0)
            error = float(np.abs(_guesses(weights, prepared) - prepared.targets)[judged].mean())
            if best is None or error < best[0]:
                best = error, weights
            progress(step)
        inputs, targets = _batch(prepared, draw)
        loss = torch.nn.functional.huber_loss(head(lstm(inputs[..., None])[0])[..., 0], targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    assert best is not None
    return best[1], _held_out(best[1], prepared)


def _prepared(runs: Sequence[F64]) -> _Runs:
    shape = len(runs), max(map(len, runs))
    inputs, targets, naive = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, values in enumerate(runs):
        levels = forecasts.ewma(values)
        scale = forecasts.usual_changes(np.diff(values, prepend=values[:1]))
        n = len(values)
        inputs[row, :n] = forecasts.deviations(values - np.append(values[:1], levels[:-1]), scale)
        targets[row, : n - 1] = (values[1:] - levels[:-1]) / scale[:-1]
        naive[row, :n] = (values - levels) / scale
    return _Runs(inputs, targets, naive, np.array([len(run) for run in runs]))


def _batch(runs: _Runs, draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random stretches of the beginnings of the runs, drawn by their length."""
    rows = draw.choice(len(runs.lengths), size=_BATCH, p=runs.lengths / runs.lengths.sum())
    begins = draw.integers(0, (runs.lengths[rows] * _FIT).astype(int) - _LENGTH + 1)
    at = begins[:, None] + np.arange(_LENGTH)
    return tuple(
        torch.tensor(part[rows[:, None], at], dtype=torch.float32) for part in (runs.inputs, runs.targets)
    )


def _guesses(weights: LstmWeights, runs: _Runs) -> F64:
    """[runs, longest] how far off the EWMA will be, forecast as the slow path does it."""
    hidden = np.zeros((len(runs.inputs), weights.hidden), np.float32)
    cell, out = np.zeros_like(hidden), np.empty_like(runs.inputs)
    for i, given in enumerate(runs.inputs.T.astype(np.float32)):
        hidden, cell = forecasts.lstm_steps(weights, given, hidden, cell)
        out[:, i] = forecasts.lstm_output(weights, hidden)
    return out


def _held_out(weights: LstmWeights, runs: _Runs) -> HeldOut:
    at = runs.between(_VALIDATE, 1.0)
    errors = (_guesses(weights, runs), np.zeros_like(runs.inputs), runs.naive)
    means = (float(np.abs(guess - runs.targets)[at].mean()) for guess in errors)
    return HeldOut(int(at.sum()), *means)
