"""Executions a second of one service, a start-up time ahead: by an EWMA, a linear map of the latest blocks, and an LSTM.

Each forecasts the mean rate of the minute in which a replica that is ordered now begins to serve. Which one is believed is
settled by their errors on minutes that they had not seen, and how far it is off is kept: capacity is planned for an upper
quantile, not for the mean.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.load.block import BLOCK_S
from layerwatch.detectors.load.lstm import LoadLstm

NAMES = ("ewma", "nlinear", "lstm")
EWMA, NLINEAR, LSTM = range(3)

LAGS = 16  # blocks that the linear map looks at: four minutes

#: Blocks whose mean is forecast.
SPAN = 4

_EWMA_ALPHA = 0.2
_COLD = (0, 60, 20)  # errors seen before a forecaster may be believed
_LOSS_BLOCKS = 240  # memory of the held-out loss
_BETTER = 0.97  # a challenger's loss against the champion's: less is chance
_TENURE_BLOCKS = 40  # that a champion stays at least
_ERRORS = 240  # kept for the quantiles: an hour
_LEAST_ERRORS = 20
_GRAM_BLOCKS = 960
_RIDGE = 0.05
_SOLVE_BLOCKS = 8
_SCALE_BLOCKS = 40  # memory of the level that errors and inputs are relative to
_FLOOR = 1 / BLOCK_S  # executions a second; one execution a block


class Forecast(NamedTuple):
    """Executions a second in the minute that begins a start-up time from now."""

    expected: float
    upper: float
    forecaster: str


class Smoothed:
    """What forecasts are relative to: the level of late, and a slower one as the scale."""

    def __init__(self) -> None:
        self.seen = 0
        self.level = 0.0
        self._slow = 0.0

    @property
    def scale(self) -> float:
        return max(self._slow, _FLOOR)

    def update(self, rate: float) -> None:
        self.seen += 1
        self.level += max(_EWMA_ALPHA, 1 / self.seen) * (rate - self.level)
        self._slow += max(1 / _SCALE_BLOCKS, 1 / self.seen) * (rate - self._slow)

    def state(self) -> State:
        return {"seen": self.seen, "level": self.level, "slow": self._slow}

    def load(self, state: State) -> None:
        self.seen, self.level, self._slow = state["seen"], state["level"], state["slow"]


def relative(rates: F64) -> tuple[F64, F64, F64]:
    """For fitting: inputs, levels and scales [n] as they are when the blocks of a run have come one after the other."""
    smoothed, out = Smoothed(), np.empty((3, len(rates)))
    for i, rate in enumerate(rates.tolist()):
        smoothed.update(rate)
        out[:, i] = LoadLstm.scaled(rate, smoothed.scale), smoothed.level, smoothed.scale
    return out[0], out[1], out[2]


class RateForecasts:
    """Of one service. `ahead` is the start-up time in blocks, at least 1."""

    def __init__(self, ahead: int, lstm: LoadLstm | None) -> None:
        self._ahead = ahead
        self._lstm = lstm
        self.smoothed = Smoothed()
        self.champion = EWMA
        self.loss: F64 = np.zeros(3)
        self._tenure = 0
        self._scored = 0
        self._past = np.zeros(0)  # rates, oldest first: as many as a target and its lags need
        self._guesses = np.zeros((0, 3))  # of the last blocks, oldest first
        self._scales = np.zeros(0)
        self._errors = np.zeros((0, 3))  # relative to the scale
        self._gram = np.zeros((LAGS, LAGS))
        self._moment = np.zeros(LAGS)
        self._weights = np.zeros(LAGS)
        hidden = 0 if lstm is None else lstm.hidden
        self._hidden = np.zeros(hidden)
        self._cell = np.zeros(hidden)

    def update(self, rate: float, quantile: float) -> Forecast:
        """Fold in a block's rate; what is expected then, and what is not exceeded with this probability."""
        self.smoothed.update(rate)
        self._past = np.append(self._past, rate)[-(self._ahead + SPAN + LAGS) :]
        self._judge()
        scale = self.smoothed.scale
        guess = self._guess(rate, self.smoothed.level, scale)
        waiting = self._ahead + SPAN
        self._guesses = np.concatenate((self._guesses, guess[None]))[-waiting:]
        self._scales = np.append(self._scales, scale)[-waiting:]
        expected = float(guess[self.champion])
        upper = expected + scale * self._off_by(quantile, rate, scale)
        return Forecast(expected, max(upper, expected, 0.0), NAMES[self.champion])

    def _guess(self, rate: float, level: float, scale: float) -> F64:
        out = np.array([level, rate, level])
        if len(self._past) >= LAGS:
            lags = self._past[-LAGS:]
            out[NLINEAR] = rate + float((lags - rate) @ self._weights)
        if self._lstm is not None:
            x = self._lstm.scaled(rate, scale)
            self._hidden, self._cell = self._lstm.step(x, self._hidden, self._cell)
            out[LSTM] = level + scale * self._lstm.read(self._hidden, self._ahead)
        positive: F64 = np.maximum(out, 0.0)
        return positive

    def _judge(self) -> None:
        """The minute that was forecast `ahead` blocks before it began has ended: errors, losses, the linear map, the champion."""
        waiting = self._ahead + SPAN
        if len(self._guesses) < waiting:
            return
        target = float(self._past[-SPAN:].mean())
        error = (target - self._guesses[0]) / self._scales[0]
        self._scored += 1
        weight = max(1 / _LOSS_BLOCKS, 1 / self._scored)
        self.loss += weight * (np.abs(error) - self.loss)
        self._errors = np.concatenate((self._errors, error[None]))[-_ERRORS:]
        if len(self._past) == waiting + LAGS:
            self._learn(target)
        self._choose()

    def _learn(self, target: float) -> None:
        lags = self._past[:LAGS]
        x = (lags - lags[-1]) / self._scales[0]
        keep = 1 - 1 / _GRAM_BLOCKS
        self._gram = keep * self._gram + np.outer(x, x)
        self._moment = keep * self._moment + x * ((target - lags[-1]) / self._scales[0])
        if self._scored % _SOLVE_BLOCKS == 0:
            penalty = _RIDGE * np.trace(self._gram) / LAGS + 1e-3
            self._weights = np.linalg.solve(self._gram + penalty * np.eye(LAGS), self._moment)

    def _choose(self) -> None:
        allowed = np.array([self._scored >= cold for cold in _COLD])
        allowed[LSTM] &= self._lstm is not None
        loss = np.where(allowed, self.loss, np.inf)
        best = int(loss.argmin())
        self._tenure += 1
        if self._tenure >= _TENURE_BLOCKS and loss[best] < _BETTER * loss[self.champion]:
            self.champion, self._tenure = best, 0

    def _off_by(self, quantile: float, rate: float, scale: float) -> float:
        """By how much of the scale the champion's forecast is too low at this quantile."""
        if len(self._errors) < _LEAST_ERRORS:  # not known yet: chance alone, and as much again
            return 2 * math.sqrt(max(rate, _FLOOR) / (SPAN * BLOCK_S)) / scale
        return float(np.quantile(self._errors[:, self.champion], quantile))

    def state(self) -> State:
        model = None if self._lstm is None else self._lstm.fingerprint
        return {
            "model": model,
            "ahead": self._ahead,
            "smoothed": self.smoothed.state(),
            **{name: getattr(self, name) for name in _KEPT},
        }

    @classmethod
    def restore(cls, state: State, ahead: int, lstm: LoadLstm | None) -> RateForecasts:
        """Under another start-up time all begins anew; under another LSTM that one does, and has to earn its place."""
        self = cls(ahead, lstm)
        if state["ahead"] != ahead:
            return self
        self.smoothed.load(state["smoothed"])
        same = state["model"] == (None if lstm is None else lstm.fingerprint)
        for name in _KEPT:
            if same or name not in ("_hidden", "_cell"):
                setattr(self, name, state[name])
        if not same:
            self.loss[LSTM] = 2 * self.loss.max()
            self.champion = EWMA if self.champion == LSTM else self.champion
        return self


#: All that makes up a service's forecasts, by name.
_KEPT = (
    "champion",
    "loss",
    "_tenure",
    "_scored",
    "_past",
    "_guesses",
    "_scales",
    "_errors",
    "_gram",
    "_moment",
    "_weights",
    "_hidden",
    "_cell",
)
