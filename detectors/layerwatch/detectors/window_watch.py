"""Watches windows of executions with fitted models: the Isolation Forest on pooled features, forecasters on levels."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64, State, median, quantile
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.forecast import LevelForecast, LstmWeights
from layerwatch.detectors.forest import FlatForest
from layerwatch.detectors.lots import Lots
from layerwatch.detectors.pooled import LEAST_SAMPLED, STRIDE, WINDOW, Standardiser, pooled
from layerwatch.detectors.ring import Ring

_FOREST_WIDEST = 3.0  # times the largest healthy value: the forest alone is blind to how far out a window is
_FOREST_LEAST = 12.0
_LOT, _LOT_QUANTILE = 100, 0.98  # windows, of which a few may be of a trouble that nobody saw
_GROWS = 2.0  # times as far out as those before, at the most
#: In a row; where few executions are sampled, windows share their layers.
_FOREST_WINDOWS, _SPARSE_FOREST_WINDOWS = 3, 6
#: Log units by which so many of a window's executions are longer than their shapes explain.
_FELT, _FELT_SHARE = 0.2, 0.2
_BLOCK_S, _BLOCK_EXECUTIONS = 1.0, 10
_SURPRISE = 8.0  # healthy errors
_SURPRISE_EFFECT = 0.45  # log units
_SURPRISE_BLOCKS = 2


class WindowWatch:
    """Channels `isolation_forest` and `forecast`."""

    def __init__(self) -> None:
        self.standardiser = Standardiser()
        self._since_window = 0
        self._forest_hits = 0
        self._lot: list[float] = []  # largest standardised values of healthy windows, being gathered
        self._widest = Lots()
        self._block: list[F64] = []  # judged executions [n, 2], TIME and HOST, as they came
        self._saved: dict[str, State] = {}
        self._forecasts: dict[str, LevelForecast] = {}
        self._lstm: LstmWeights | None = None
        self._surprises = 0
        #: For whoever fits models: the newest healthy window, standardised, and the newest healthy levels.
        self.healthy_window: F64 | None = None
        self.healthy_levels: dict[str, float] = {}

    def step(
        self,
        rows: F64,
        executions: Ring,
        sampled: Ring,
        forest: FlatForest | None,
        lstm: LstmWeights | None,
        *,
        suspicious: bool,
        sampled_all: bool,
    ) -> list[Finding]:
        """Judge a chunk of executions; windows are learnt from where nothing else is `suspicious`."""
        self._take_up(lstm)
        self.healthy_window, self.healthy_levels = None, {}
        findings = []
        self._since_window += len(rows)
        if self._since_window >= STRIDE:
            self._since_window = 0
            findings.append(self._judge_window(executions, sampled, forest, suspicious, sampled_all))
        judged = rows[rows[:, e.JUDGED] > 0]
        if len(judged):
            self._block.append(judged[:, e.TIME : e.HOST + 1])
            if judged[-1, e.TIME] - self._block[0][0, 0] >= _BLOCK_S:
                block = np.concatenate(self._block)
                if len(block) >= _BLOCK_EXECUTIONS:
                    findings.append(self._judge_block(block, sampled, suspicious))
                    self._block.clear()
        return [finding for finding in findings if finding is not None]

    @property
    def suspected(self) -> list[str]:
        """The channels for which the latest window or block was beyond its threshold: once is not yet a finding."""
        raised = ["isolation_forest"] if self._forest_hits else []
        return [*raised, "forecast"] if self._surprises else raised

    def clear(self) -> None:
        self._block.clear()
        self._since_window = self._forest_hits = self._surprises = 0

    def window(self, executions: Ring, sampled: Ring) -> F64 | None:
        """The pooled features of the newest window."""
        newest = executions.last(WINDOW)
        if len(newest) < WINDOW:
            return None
        layers = sampled.since(float(newest[0, e.TIME]))
        if len(layers) < LEAST_SAMPLED:  # rather older ones than too few
            layers = sampled.last(LEAST_SAMPLED)
        return pooled(newest, layers)

    def _judge_window(
        self, executions: Ring, sampled: Ring, forest: FlatForest | None, suspicious: bool, sampled_all: bool
    ) -> Finding | None:
        window = self.window(executions, sampled)
        if window is None:
            return None
        z = self.standardiser(window)
        if z is None:
            if not suspicious:
                self.standardiser.learn(window, sampled_all)
            return None
        widest = float(np.abs(z).max())
        far = widest > max(_FOREST_WIDEST * self._widest_healthy, _FOREST_LEAST)
        if not suspicious:
            self.healthy_window = z
            self._learn_widest(widest)
        if forest is None:
            return None
        odd = far and _is_felt(executions.last(WINDOW))
        score = float(forest.score(z[None, :])[0]) if odd else 0.0
        self._forest_hits = self._forest_hits + 1 if odd and score > forest.threshold else 0
        if self._forest_hits < (_FOREST_WINDOWS if sampled_all else _SPARSE_FOREST_WINDOWS):
            return None
        onset_s = float(executions.last(WINDOW)[0, e.TIME])
        return Finding("isolation_forest", score, forest.threshold, onset_s)

    @property
    def _widest_healthy(self) -> float:
        """How far out windows are with nothing wrong: the first ones, or later lots where those were noisier."""
        later = self._widest.agreed()[0] if len(self._widest) else 0.0
        return max(self.standardiser.widest, later)

    def _learn_widest(self, widest: float) -> None:
        self._lot.append(min(widest, _GROWS * self._widest_healthy))
        if len(self._lot) == _LOT:
            self._widest.add([quantile(np.array(self._lot), _LOT_QUANTILE)])
            self._lot.clear()

    def _judge_block(self, block: F64, sampled: Ring, suspicious: bool) -> Finding | None:
        """The level of the host part and of the sum of layers, each against its forecast."""
        levels = {"host": median(block[:, 1])}
        layers = sampled.since(float(block[0, 0]))
        if len(layers) >= _BLOCK_EXECUTIONS:
            levels["layers"] = median(layers[:, s.TOTAL])
        worst: Finding | None = None
        for name, level in levels.items():
            surprise = self._forecasts[name].judge(level)
            surprised = (
                surprise is not None and surprise.score > _SURPRISE and surprise.residual > _SURPRISE_EFFECT
            )
            if surprise is not None and surprised:
                worst = Finding("forecast", surprise.score, _SURPRISE, float(block[0, 0]))
            elif not suspicious:
                self._forecasts[name].learn(level)
                self.healthy_levels[name] = level
        self._surprises = self._surprises + 1 if worst else 0
        return worst if self._surprises >= _SURPRISE_BLOCKS else None

    def _take_up(self, lstm: LstmWeights | None) -> None:
        if self._forecasts and lstm is self._lstm:
            return
        self._saved |= {name: forecast.state() for name, forecast in self._forecasts.items()}
        self._lstm = lstm
        self._forecasts = {name: LevelForecast(lstm) for name in ("host", "layers")}
        for name, state in self._saved.items():
            self._forecasts[name].load(state)

    def state(self) -> State:
        return {
            "standardiser": self.standardiser.state(),
            "counts": [self._since_window, self._forest_hits, self._surprises],
            "widest": self._widest.state(),
            "lot": list(self._lot),
            "block": np.concatenate((np.empty((0, 2)), *self._block)),
            "forecasts": {**self._saved, **{name: f.state() for name, f in self._forecasts.items()}},
        }

    @classmethod
    def restore(cls, state: State) -> WindowWatch:
        self = cls()
        self.standardiser = Standardiser.restore(state["standardiser"])
        self._since_window, self._forest_hits, self._surprises = state["counts"]
        self._widest, self._lot = Lots.restore(state["widest"]), list(state["lot"])
        self._block = [state["block"]] if len(state["block"]) else []
        self._saved = state["forecasts"]
        return self


def _is_felt(executions: F64) -> bool:
    """Whether requests are slower: a window that is only odd concerns nobody at night."""
    return float(np.count_nonzero(executions[:, e.RATIO] > _FELT)) >= _FELT_SHARE * len(executions)
