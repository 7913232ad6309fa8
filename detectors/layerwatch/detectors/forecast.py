"""One-step forecasters of a level: EWMA, and an LSTM whose weights torch has fitted and a plain step runs.

Which of the two is believed is settled by their errors on the instance's own healthy blocks: one-step LSTMs beat an
EWMA on two series of three, not on all.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from layerwatch.detectors.arrays import F64, State

_SPREAD_FLOOR = 0.03  # log units; a level that never moved is not known better than this
_WARM_UP_BLOCKS = 8
_MEMORY_BLOCKS = 50


class Forecaster(Protocol):
    def predict(self) -> float:
        """The next value."""

    def update(self, value: float) -> None:
        """The value that came."""

    def state(self) -> State: ...

    def load(self, state: State) -> bool:
        """False if the state is another model's, and of no use."""


@dataclass(slots=True)
class Ewma:
    """Exponentially weighted mean; `alpha` per block."""

    alpha: float = 0.2
    level: float = 0.0
    seen: int = 0

    def predict(self) -> float:
        return self.level

    def update(self, value: float) -> None:
        self.seen += 1
        self.level += max(self.alpha, 1 / self.seen) * (value - self.level)

    def state(self) -> State:
        return {"level": self.level, "seen": self.seen}

    def load(self, state: State) -> bool:
        self.level, self.seen = state["level"], state["seen"]
        return True


@dataclass(frozen=True, slots=True)
class LstmWeights:
    """Arrays of torch's `nn.LSTM(1, hidden)` and its linear head; gates in torch's order: input, forget, cell, output."""

    input: F64  # [4 hidden]
    recurrent: F64  # [4 hidden, hidden]
    bias: F64  # [4 hidden], both of torch's added up
    head: F64  # [hidden]
    head_bias: float
    scale: float  # inputs and outputs are divided by it

    @property
    def hidden(self) -> int:
        return len(self.head)

    @property
    def fingerprint(self) -> int:
        """Tells one model from another."""
        arrays = (self.input, self.recurrent, self.bias, self.head, np.array([self.head_bias, self.scale]))
        return zlib.crc32(b"".join(np.asarray(a, np.float32).tobytes() for a in arrays))


@dataclass(slots=True)
class Lstm:
    """Reads the change from one block to the next and predicts the next change."""

    weights: LstmWeights
    last: float = 0.0
    seen: int = 0
    hidden: F64 = field(default_factory=lambda: np.zeros(0))
    cell: F64 = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not len(self.hidden):
            self.hidden, self.cell = np.zeros(self.weights.hidden), np.zeros(self.weights.hidden)

    def predict(self) -> float:
        w = self.weights
        return self.last + float(self.hidden @ w.head + w.head_bias) * w.scale

    def update(self, value: float) -> None:
        change = (value - self.last) / self.weights.scale if self.seen else 0.0
        self.hidden, self.cell = lstm_step(self.weights, change, self.hidden, self.cell)
        self.last, self.seen = value, self.seen + 1

    def state(self) -> State:
        return {
            "model": self.weights.fingerprint,
            "last": self.last,
            "seen": self.seen,
            "hidden": self.hidden,
            "cell": self.cell,
        }

    def load(self, state: State) -> bool:
        self.last, self.seen = state["last"], state["seen"]
        if state.get("model") != self.weights.fingerprint:
            return False
        self.hidden, self.cell = state["hidden"], state["cell"]
        return True


def lstm_step(w: LstmWeights, x: float, hidden: F64, cell: F64) -> tuple[F64, F64]:
    """One step of torch's nn.LSTM; equal to 1e-6 in its float32."""
    gates = w.input * x + w.recurrent @ hidden + w.bias
    i, f, g, o = gates.reshape(4, -1)
    cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(cell), cell


def _sigmoid(x: F64) -> F64:
    out: F64 = 0.5 * (1.0 + np.tanh(0.5 * x))
    return out


@dataclass(frozen=True, slots=True)
class Surprise:
    """How far a block was from the champion's forecast: log units, and in its own healthy errors."""

    residual: float
    score: float
    champion: str


class LevelForecast:
    """A level in blocks of about a second, forecast by an EWMA and, where there is one, an LSTM."""

    def __init__(self, lstm: LstmWeights | None) -> None:
        self._forecasters: dict[str, Forecaster] = {"ewma": Ewma()}
        if lstm is not None:
            self._forecasters["lstm"] = Lstm(lstm)
        self._errors = dict.fromkeys(self._forecasters, 0.0)  # mean absolute error on healthy blocks
        self._blocks = 0

    def judge(self, value: float) -> Surprise | None:
        """The next block against its forecast; None while warming up."""
        if self._blocks < _WARM_UP_BLOCKS:
            return None
        champion = min(self._errors, key=lambda name: self._errors[name])
        residual = value - self._forecasters[champion].predict()
        return Surprise(residual, residual / (self._errors[champion] * 1.25 + _SPREAD_FLOOR), champion)

    def learn(self, value: float) -> None:
        """Fold in a healthy block."""
        self._blocks += 1
        weight = max(1 / self._blocks, 1 / _MEMORY_BLOCKS)
        for name, forecaster in self._forecasters.items():
            if self._blocks > 1:
                self._errors[name] += weight * (abs(value - forecaster.predict()) - self._errors[name])
            forecaster.update(value)

    def state(self) -> State:
        return {
            "blocks": self._blocks,
            "errors": self._errors,
            "forecasters": {name: forecaster.state() for name, forecaster in self._forecasters.items()},
        }

    def load(self, state: State) -> None:
        self._blocks = state["blocks"]
        unknown = 2 * max(state["errors"].values()) + _SPREAD_FLOOR  # a newcomer has to earn its place
        for name, forecaster in self._forecasters.items():
            saved = state["forecasters"].get(name)
            known = saved is not None and forecaster.load(saved)
            self._errors[name] = state["errors"][name] if known else unknown
