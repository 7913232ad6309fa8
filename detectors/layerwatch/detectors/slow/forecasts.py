"""One-step forecasts of many streams at once, by an EWMA, a linear map of the latest values, and an LSTM.

Which one is believed is settled for each stream by its errors on blocks that it had not seen when it forecast them. The
forecaster's job is to leave nothing in the residuals that the next residual could be guessed from.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F32, F64, Bools, Ints, State, clipped
from layerwatch.detectors.forecast import LstmWeights

NAMES = ("ewma", "nlinear", "lstm")
EWMA, NLINEAR, LSTM = range(3)

#: Blocks of the past that the linear map looks at.
LAGS = 16

_EWMA_ALPHA = 0.2
_COLD_BLOCKS = (0, 120, 60)  # before a forecaster may be believed
_LOSS_BLOCKS = 360  # memory of the held-out loss
_BETTER = 0.97  # a challenger's loss against the champion's: less is chance
_TENURE_BLOCKS = 120  # that a champion stays at least
_SPREAD_BLOCKS = 60
_SPREAD_FLOOR = 2e-4  # log units; nothing is measured better
_CLIP = 6.0  # spreads; an outlier moves a forecast by no more
_LSTM_READS, _LSTM_SAYS = 3.0, 4.0  # usual changes between two blocks, at most
_GRAM_BLOCKS = 1440
_RIDGE = 0.02
_SOLVE_BLOCKS = 60


class Forecasts:
    """Of `streams` levels in log units. A block in which a stream has no value leaves the stream as it was."""

    def __init__(self, streams: int, lstm: LstmWeights | None) -> None:
        self._lstm = lstm
        self.seen: Ints = np.zeros(streams, np.int64)
        self.spread: F64 = np.full(streams, _SPREAD_FLOOR)  # mean absolute residual of late
        self.champion: Ints = np.zeros(streams, np.int64)
        self._tenure: Ints = np.zeros(streams, np.int64)
        self._loss = np.zeros((streams, 3))
        self._guess = np.zeros((streams, 3))
        self._level = np.zeros(streams)
        self._past = np.zeros((streams, LAGS + 1))  # newest first
        self._change = np.full(streams, _SPREAD_FLOOR)  # mean absolute change between blocks
        self._gram = np.zeros((streams, LAGS, LAGS), np.float32)
        self._moment = np.zeros((streams, LAGS), np.float32)
        self._weights = np.zeros((streams, LAGS), np.float32)
        hidden = 0 if lstm is None else lstm.hidden
        self._hidden = np.zeros((streams, hidden), np.float32)
        self._cell = np.zeros((streams, hidden), np.float32)
        self._steps = 0

    @property
    def expected(self) -> F64:
        """The champions' forecasts of the next block [streams]; 0 where nothing was seen yet."""
        out: F64 = self._guess[np.arange(len(self.champion)), self.champion]
        return out

    def update(self, values: F64, present: Bools) -> F64:
        """Fold in a block's values [streams]; the residuals against what was expected, 0 where nothing was."""
        at = slice(None) if present.all() else np.flatnonzero(present)
        value, first = values[at], self.seen[at] == 0
        error = value[:, None] - self._guess[at]
        own = np.take_along_axis(error, self.champion[at, None], 1)[:, 0]
        residual = np.where(first, 0.0, own)
        limit = np.where(self.seen[at] < 8, np.inf, _CLIP * 1.25 * self.spread[at])
        tame = np.where(first, value, value - residual + np.clip(residual, -limit, limit))
        self._judge(at, np.minimum(np.abs(error), limit[:, None]), first)
        grown = np.maximum(1 / _SPREAD_BLOCKS, 1 / np.maximum(self.seen[at], 1))
        self.spread[at] += np.where(
            first, 0.0, grown * (np.minimum(np.abs(residual), limit) - self.spread[at])
        )
        self.spread[at] = np.maximum(self.spread[at], _SPREAD_FLOOR)
        self._learn(at, tame, first)
        self._steps += 1
        if self._steps % _SOLVE_BLOCKS == 0:
            self._solve()
        self._forecast(at)
        out = np.zeros(len(values))
        out[at] = residual
        return out

    def _judge(self, at: slice | Ints, error: F64, first: Bools) -> None:
        """Held-out losses, and whether a challenger takes over."""
        seen = self.seen[at]
        weight = np.maximum(1 / _LOSS_BLOCKS, 1 / np.maximum(seen, 1))[:, None]
        self._loss[at] += np.where(first[:, None], 0.0, weight * (error - self._loss[at]))
        allowed = seen[:, None] >= np.array(_COLD_BLOCKS)
        allowed[:, LSTM] &= self._lstm is not None
        loss = np.where(allowed, self._loss[at], np.inf)
        best = loss.argmin(1)
        champion, tenure = self.champion[at], self._tenure[at] + 1
        better = np.take_along_axis(loss, best[:, None], 1) < _BETTER * np.take_along_axis(
            loss, champion[:, None], 1
        )
        switch = better[:, 0] & (tenure >= _TENURE_BLOCKS)
        self.champion[at] = np.where(switch, best, champion)
        self._tenure[at] = np.where(switch, 0, tenure)

    def _learn(self, at: slice | Ints, tame: F64, first: Bools) -> None:
        past, last = self._past[at], self._past[at, 0]
        change = np.where(first, 0.0, tame - last)
        self.seen[at] += 1
        seen = self.seen[at]
        off = np.where(first, 0.0, tame - self._level[at])
        self._level[at] += np.maximum(_EWMA_ALPHA, 1 / seen) * (tame - self._level[at])
        ready = (seen > LAGS + 1).astype(np.float32)
        lags = (past[:, 1:] - past[:, :1]).astype(np.float32)
        scaled = lags * (ready / np.maximum(self._change[at], _SPREAD_FLOOR).astype(np.float32))[:, None]
        target = (change / np.maximum(self._change[at], _SPREAD_FLOOR)).astype(np.float32)
        keep = np.float32(1 - 1 / _GRAM_BLOCKS)
        gram = self._gram[at]
        gram *= keep
        gram += scaled[:, :, None] * scaled[:, None, :]
        self._gram[at] = gram
        self._moment[at] = keep * self._moment[at] + scaled * target[:, None]
        weight = np.where(first, 0.0, np.maximum(1 / _SPREAD_BLOCKS, 1 / seen))
        self._change[at] += weight * (np.abs(change) - self._change[at])
        self._change[at] = np.maximum(self._change[at], _SPREAD_FLOOR)
        if self._lstm is not None:
            given = deviations(off, self._change[at]).astype(np.float32)
            self._hidden[at], self._cell[at] = lstm_steps(self._lstm, given, self._hidden[at], self._cell[at])
        self._past[at] = np.where(
            first[:, None], tame[:, None], np.concatenate((tame[:, None], past[:, :-1]), 1)
        )

    def _solve(self) -> None:
        trace = np.trace(self._gram, axis1=1, axis2=2) / LAGS + 1e-3
        penalty = (_RIDGE * trace)[:, None, None] * np.eye(LAGS, dtype=np.float32)
        self._weights[:] = np.linalg.solve(self._gram + penalty, self._moment[:, :, None])[:, :, 0]

    def _forecast(self, at: slice | Ints) -> None:
        past = self._past[at]
        last = past[:, 0]
        guess = np.empty((len(past), 3))
        guess[:, EWMA] = self._level[at]
        guess[:, NLINEAR] = last + ((past[:, 1:] - past[:, :1]) * self._weights[at]).sum(1)
        guess[:, LSTM] = guess[:, EWMA]
        if self._lstm is not None:
            guess[:, LSTM] += self._change[at] * lstm_output(self._lstm, self._hidden[at])
        self._guess[at] = guess

    def state(self) -> State:
        model = None if self._lstm is None else self._lstm.fingerprint
        return {"steps": self._steps, "model": model, **{name: getattr(self, name) for name in _ARRAYS}}

    @classmethod
    def restore(cls, state: State, lstm: LstmWeights | None) -> Forecasts:
        """Under another LSTM than the one that was saved, that forecaster starts anew and has to earn its place."""
        self = cls(len(state["seen"]), lstm)
        self._steps = state["steps"]
        same = state["model"] == (None if lstm is None else lstm.fingerprint)
        for name in _ARRAYS:
            if same or name not in ("_hidden", "_cell"):
                setattr(self, name, state[name])
        if not same:
            self._loss[:, LSTM] = 2 * self._loss.max(1)
            self.champion[self.champion == LSTM] = EWMA
            self._forecast(slice(None))
        return self


#: All that makes up a stream, by name.
_ARRAYS = (
    "seen",
    "spread",
    "champion",
    "_tenure",
    "_loss",
    "_guess",
    "_level",
    "_past",
    "_change",
    "_gram",
    "_moment",
    "_weights",
    "_hidden",
    "_cell",
)


def deviations(off: F64, usual: F64) -> F64:
    """What the LSTM reads of a block: how far off the EWMA was, over the usual change between blocks; 0 for a surprise.

    What has learnt to follow steps hides them, so it is not told of any.
    """
    return np.where(np.abs(off) <= _LSTM_READS * usual, off / usual, 0.0)


def lstm_output(w: LstmWeights, hidden: F32) -> F64:
    """[n] How far off the LSTM thinks the EWMA will be, over the usual change; from hidden states [n, hidden]."""
    return clipped((hidden @ w.head.astype(np.float32)).astype(np.float64) + w.head_bias, _LSTM_SAYS)


def ewma(values: F64) -> F64:
    """[n] The EWMA's level after each of a stream's values [n]."""
    out, level = np.empty(len(values)), 0.0
    for i, value in enumerate(values.tolist()):
        level += max(_EWMA_ALPHA, 1 / (i + 1)) * (value - level)
        out[i] = level
    return out


def usual_changes(changes: F64) -> F64:
    """[n] The mean absolute change of a stream as it is known after each of its changes [n]; the first of them is none."""
    out, usual = np.empty(len(changes)), _SPREAD_FLOOR
    for i, size in enumerate(np.abs(changes).tolist()):
        if i:
            usual = max(usual + max(1 / _SPREAD_BLOCKS, 1 / (i + 1)) * (size - usual), _SPREAD_FLOOR)
        out[i] = usual
    return out


def lstm_steps(w: LstmWeights, x: F32, hidden: F32, cell: F32) -> tuple[F32, F32]:
    """`lstm_step` for many streams: x [n], hidden and cell [n, hidden]."""
    gates = hidden @ w.recurrent.T.astype(np.float32)
    gates += x[:, None] * w.input.astype(np.float32) + w.bias.astype(np.float32)
    n = w.hidden
    gates[:, : 2 * n] *= 0.5  # a sigmoid is half of a tanh, so that one call does for all gates
    gates[:, 3 * n :] *= 0.5
    np.tanh(gates, out=gates)
    i, f = 0.5 + 0.5 * gates[:, :n], 0.5 + 0.5 * gates[:, n : 2 * n]
    cell = f * cell + i * gates[:, 2 * n : 3 * n]
    return (0.5 + 0.5 * gates[:, 3 * n :]) * np.tanh(cell), cell
