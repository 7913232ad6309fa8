"""How many replicas a service should have ordered by now: forecast, capacity, guard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from layerwatch.detectors.arrays import State
from layerwatch.detectors.load.block import BLOCK_S, LoadBlock, Mix
from layerwatch.detectors.load.capacity import replicas_for
from layerwatch.detectors.load.fleet import Fleet
from layerwatch.detectors.load.forecasts import Forecast, RateForecasts
from layerwatch.detectors.load.guard import Guard
from layerwatch.detectors.load.lstm import LoadLstm
from layerwatch.detectors.load.reactive import STABILISATION_S, TARGET_UTILISATION, Reactive

#: Of the errors of the last hour: load that is exceeded less often than once in so many forecasts is planned for.
QUANTILE = 0.95

#: Share of the replicas' time above which executions wait for replicas, so that their rate tells of these and not of demand.
_SATURATED = 0.9

#: Executions that must have been seen before their service time is believed.
_LEAST_EXECUTIONS = 20.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What people say of a service. Without a target latency no replicas are planned."""

    target_s: float | None = None
    startup_s: float = 120.0
    least: int = 1
    most: int | None = None

    def within(self, replicas: int) -> int:
        return max(self.least, replicas if self.most is None else min(replicas, self.most))

    @property
    def ahead(self) -> int:
        """The start-up time in blocks."""
        return max(math.ceil(self.startup_s / BLOCK_S), 1)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Of both policies; the shipped values are those that `layerwatch capacity` finds on its tuning trace."""

    quantile: float = QUANTILE
    utilisation: float = TARGET_UTILISATION


@dataclass(frozen=True, slots=True)
class Plan:
    """`replicas` is None as long as nothing can be said; `basis` is forecast, reactive, or learning."""

    replicas: int | None
    basis: str
    forecast: Forecast


class Planner:
    """Of one service, block by block."""

    def __init__(self, goal: Goal, lstm: LoadLstm | None, tuning: Tuning = Tuning()) -> None:
        self._goal = goal
        self._tuning = tuning
        self.mix = Mix()
        self._forecasts = RateForecasts(goal.ahead, lstm)
        self._reactive = Reactive(tuning.utilisation)
        self._reactive_alone = Reactive(tuning.utilisation)  # on the fleet that it would have had
        self._wished: list[tuple[float, int]] = []
        self._guard: Guard | None = None

    @property
    def fallen_back(self) -> bool:
        return self._guard is not None and self._guard.fallen_back

    def update(self, block: LoadBlock, ordered: int) -> Plan:
        """`ordered`: replicas that serve or start, as far as they are known."""
        forecast = self._forecasts.update(block.rate, self._tuning.quantile)
        self.mix.update(block)
        service, target_s = self.mix.service, self._goal.target_s
        if service is None or target_s is None or self.mix.executions < _LEAST_EXECUTIONS:
            return Plan(None, "learning", forecast)
        if self._guard is None:
            self._guard = Guard(Fleet(max(ordered, 1)), Fleet(max(ordered, 1)))
        self._guard.judge(block, service, target_s)
        reactive = self._goal.within(self._reactive.update(block, ordered))
        planned = self._held(block, replicas_for(forecast.upper, service, target_s), ordered)
        if block.utilisation >= _SATURATED:
            planned = max(planned, reactive)
        planned = self._goal.within(planned)
        alone = self._reactive_alone.update(_on(block, self._guard.reactive), self._guard.reactive.ordered)
        self._guard.order(planned, self._goal.within(alone), block.end_s, self._goal.startup_s)
        if self._guard.fallen_back:
            return Plan(reactive, "reactive", forecast)
        return Plan(planned, "forecast", forecast)

    def _held(self, block: LoadBlock, wish: int, ordered: int) -> int:
        """The highest wish of the stabilisation window: replicas that start are not thrown away again."""
        begin_s = block.end_s - STABILISATION_S
        if not self._wished:
            self._wished = [(block.end_s, ordered)]
        self._wished = [(at_s, n) for at_s, n in self._wished if at_s > begin_s] + [(block.end_s, wish)]
        return max(n for _, n in self._wished)

    def state(self) -> State:
        return {
            "mix": msgspec.to_builtins(self.mix),
            "forecasts": self._forecasts.state(),
            "reactive": msgspec.to_builtins(self._reactive),
            "reactive_alone": msgspec.to_builtins(self._reactive_alone),
            "wished": self._wished,
            "guard": msgspec.to_builtins(self._guard),
        }

    @classmethod
    def restore(cls, state: State, goal: Goal, lstm: LoadLstm | None, tuning: Tuning = Tuning()) -> Planner:
        self = cls(goal, lstm, tuning)
        self.mix = msgspec.convert(state["mix"], Mix)
        self._forecasts = RateForecasts.restore(state["forecasts"], goal.ahead, lstm)
        self._reactive = msgspec.convert(state["reactive"], Reactive)
        self._reactive_alone = msgspec.convert(state["reactive_alone"], Reactive)
        self._wished = [(at_s, n) for at_s, n in state["wished"]]
        self._guard = None if state["guard"] is None else msgspec.convert(state["guard"], Guard)
        return self


def _on(block: LoadBlock, fleet: Fleet) -> LoadBlock:
    """The same load as another fleet would have shown it."""
    return msgspec.structs.replace(block, instances=max(fleet.serving, 1))
