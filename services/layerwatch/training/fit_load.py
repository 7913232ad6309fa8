"""Fits the LSTM that forecasts load, with torch. Only `layerwatch train --load` imports this: torch takes seconds to load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.load.forecasts import SPAN, relative
from layerwatch.detectors.load.lstm import HORIZONS, LoadLstm
from layerwatch.schemas.errors import ConfigError

_HIDDEN = 16
_LENGTH = 160  # blocks of a training sequence: 40 minutes
_BATCH = 48
_LEARNING_RATE = 0.01
_VALIDATE = 0.8  # of each run: fitted on up to here, stopped by the rest
_CHECK_STEPS = 25
_CLIP = 1.0


@dataclass(frozen=True, slots=True)
class LoadFit:
    """Mean absolute errors a horizon ahead, over the level, on the ends of the runs: stopping was by these, so they flatter."""

    blocks: int
    lstm: float
    ewma: float


@dataclass(frozen=True, slots=True)
class _Run:
    inputs: torch.Tensor  # [n]
    targets: torch.Tensor  # [n, horizons], NaN where the future is not known


def fit_load(
    rates: Sequence[F64], progress: Callable[[int], None], steps: int = 600, seed: int = 0
) -> tuple[LoadLstm, LoadFit]:
    """Weights fitted on executions a second by block, one array a service. Raises ConfigError when there are too few."""
    runs = [_run(run) for run in rates if len(run) > _LENGTH]
    if not runs:
        raise ConfigError(
            f"no run of {_LENGTH} blocks of 15 s to fit a forecaster of load on: name longer traces"
        )
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = np.random.default_rng(seed)
    lstm = torch.nn.LSTM(1, _HIDDEN, batch_first=True)
    head = torch.nn.Linear(_HIDDEN, len(HORIZONS))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.Adam([*lstm.parameters(), *head.parameters()], _LEARNING_RATE)
    best: tuple[float, LoadLstm] | None = None
    for step in range(steps + 1):
        if step % _CHECK_STEPS == 0:
            error = _error(lstm, head, runs)
            if best is None or error.lstm < best[0]:
                best = error.lstm, _weights(lstm, head)
            progress(step)
        inputs, targets = _batch(runs, draw)
        loss = _loss(head(lstm(inputs[..., None])[0]), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*lstm.parameters(), *head.parameters()], _CLIP)
        optimiser.step()
    assert best is not None
    blocks = sum(len(run.inputs) - int(len(run.inputs) * _VALIDATE) for run in runs)
    zero = _error(None, head, runs)
    return best[1], LoadFit(blocks, best[0], zero.ewma)


@dataclass(frozen=True, slots=True)
class _Error:
    lstm: float
    ewma: float


def _run(rates: F64) -> _Run:
    inputs, levels, scales = relative(rates)
    targets = np.full((len(rates), len(HORIZONS)), np.nan)
    sums = np.cumsum(np.concatenate(([0.0], rates)))
    means = (sums[SPAN:] - sums[:-SPAN]) / SPAN  # [i] of the blocks i..i+SPAN-1
    for column, ahead in enumerate(HORIZONS):
        known = len(means) - ahead - 1
        targets[:known, column] = (means[ahead + 1 :] - levels[:known]) / scales[:known]
    return _Run(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))


def _batch(runs: Sequence[_Run], draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random stretches of the beginnings of the runs."""
    picked = []
    for run in draw.choice(len(runs), size=_BATCH):
        last = max(int(len(runs[run].inputs) * _VALIDATE), _LENGTH + 1)
        begin = int(draw.integers(0, last - _LENGTH))
        picked.append((runs[run], slice(begin, begin + _LENGTH)))
    return torch.stack([r.inputs[s] for r, s in picked]), torch.stack([r.targets[s] for r, s in picked])


def _loss(guess: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    known = ~torch.isnan(target)
    return torch.nn.functional.huber_loss(guess[known], target[known], delta=0.5)


def _error(lstm: torch.nn.LSTM | None, head: torch.nn.Linear, runs: Sequence[_Run]) -> _Error:
    """Of the ends of the runs, each run weighing the same."""
    ours, flat = [], []
    with torch.no_grad():
        for run in runs:
            cut = int(len(run.inputs) * _VALIDATE)
            target = run.targets[cut:]
            known = ~torch.isnan(target)
            flat.append(float(target[known].abs().mean()))
            if lstm is not None:
                begin = max(cut - _LENGTH, 0)
                guess = head(lstm(run.inputs[None, begin:, None])[0])[0, cut - begin :]
                ours.append(float((guess - target)[known].abs().mean()))
    return _Error(float(np.mean(ours)) if ours else 0.0, float(np.mean(flat)))


def _weights(lstm: torch.nn.LSTM, head: torch.nn.Linear) -> LoadLstm:
    """torch's parameters as the arrays that the plain step runs on."""

    def array(tensor: torch.Tensor) -> F64:
        return np.array(tensor.detach().numpy(), np.float64)

    cell = LstmWeights(
        input=array(lstm.weight_ih_l0)[:, 0],
        recurrent=array(lstm.weight_hh_l0),
        bias=array(lstm.bias_ih_l0) + array(lstm.bias_hh_l0),
        head=np.zeros(_HIDDEN),
        head_bias=0.0,
        scale=1.0,
    )
    return LoadLstm(cell, array(head.weight), array(head.bias))
