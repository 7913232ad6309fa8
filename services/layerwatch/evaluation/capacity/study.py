"""Forecasts against scaling on utilisation: tuned on one trace, compared on others, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.load.block import LoadBlock, ServiceTime
from layerwatch.detectors.load.capacity import replicas_for
from layerwatch.detectors.load.lstm import LoadLstm
from layerwatch.detectors.load.planner import Goal, Planner, Tuning
from layerwatch.detectors.load.reactive import Reactive
from layerwatch.evaluation.capacity.simulation import Outcome, Policy, simulate
from layerwatch.evaluation.capacity.traces import Arrivals

UTILISATIONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUANTILES = (0.8, 0.9, 0.95, 0.99)

#: Target latency of a trace, in 99th percentiles of its service time.
TARGET = 1.25

#: Share of late requests that a cheaper setting may add to the best one's, when settings are tuned.
_SPARED = 0.005

_BOOTSTRAP = 2_000
_BOOTSTRAP_BLOCKS = 40  # of 15 s: ten minutes, so that what follows from one burst stays together


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours less theirs, with the 2.5 and 97.5 percentiles of a paired block bootstrap."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One trace at one start-up time. Differences: late in percentage points, replica-hours in percent of theirs."""

    trace: str
    startup_s: float
    tuning: Tuning
    requests: int
    reactive_late: int
    reactive_hours: float
    late: int
    hours: float
    late_difference: Difference
    hours_difference: Difference
    fallen_back: float  # share of the time
    hindsight: Tuning  # the best utilisation for this very trace
    hindsight_late: int
    hindsight_hours: float


@dataclass(frozen=True, slots=True)
class _Case:
    arrivals: Arrivals
    startup_s: float

    @property
    def target_s(self) -> float:
        return TARGET * float(np.quantile(self.arrivals.service_s, 0.99))

    @property
    def first(self) -> int:
        """Replicas to begin with: what the first five minutes need."""
        early = self.arrivals.times_s < 300
        times = self.arrivals.service_s[early]
        service = ServiceTime(float(times.mean()), float(times.var() / times.mean() ** 2))
        return replicas_for(float(early.sum()) / 300, service, self.target_s)

    def run(self, policy: Policy) -> Outcome:
        return simulate(self.arrivals, policy, self.startup_s, self.target_s, self.first)

    def reactive(self, utilisation: float) -> Outcome:
        return self.run(Reactive(utilisation).update)

    def planned(self, tuning: Tuning, lstm: LoadLstm | None) -> tuple[Outcome, float]:
        """The outcome, and the share of the time in which scaling on utilisation stood in."""
        planner = Planner(Goal(self.target_s, self.startup_s), lstm, tuning)
        bases: list[str] = []

        def policy(block: LoadBlock, ordered: int) -> int:
            plan = planner.update(block, ordered)
            bases.append(plan.basis)
            return max(ordered, 1) if plan.replicas is None else plan.replicas

        outcome = self.run(policy)
        return outcome, bases.count("reactive") / len(bases)


def compare(
    tuned_on: Arrivals,
    traces: Sequence[Arrivals],
    startups_s: Sequence[float],
    lstm: LoadLstm | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Row]:
    """A row for each start-up time and trace; `progress(rows done)`."""
    done = 0
    for startup_s in startups_s:
        tuning = tune(_Case(tuned_on, startup_s), lstm)
        for arrivals in traces:
            yield _row(_Case(arrivals, startup_s), tuning, lstm)
            done += 1
            progress(done)


def tune(case: _Case, lstm: LoadLstm | None) -> Tuning:
    """The cheapest utilisation that hardly adds late requests, then the cheapest quantile that adds none to speak of."""
    utilisation = _cheapest({u: case.reactive(u) for u in UTILISATIONS})
    tunings = {q: Tuning(q, utilisation) for q in QUANTILES}
    return tunings[_cheapest({q: case.planned(tuning, lstm)[0] for q, tuning in tunings.items()})]


def _cheapest(outcomes: dict[float, Outcome]) -> float:
    best = min(outcome.late_share for outcome in outcomes.values())
    good = {s: o for s, o in outcomes.items() if o.late_share <= best + _SPARED}
    return min(good, key=lambda setting: good[setting].replica_hours)


def _row(case: _Case, tuning: Tuning, lstm: LoadLstm | None) -> Row:
    every = {u: case.reactive(u) for u in UTILISATIONS}
    theirs, hindsight = every[tuning.utilisation], _cheapest(every)
    ours, fallen_back = case.planned(tuning, lstm)
    return Row(
        case.arrivals.name,
        case.startup_s,
        tuning,
        int(ours.arrived.sum()),
        int(theirs.late.sum()),
        theirs.replica_hours,
        int(ours.late.sum()),
        ours.replica_hours,
        _late_difference(ours, theirs),
        _hours_difference(ours, theirs),
        fallen_back,
        Tuning(utilisation=hindsight),
        int(every[hindsight].late.sum()),
        every[hindsight].replica_hours,
    )


def _late_difference(ours: Outcome, theirs: Outcome) -> Difference:
    """Percentage points."""
    share = _resampled(ours.late - theirs.late, ours.arrived)
    return Difference(100 * (ours.late_share - theirs.late_share), *_interval(100 * share))


def _hours_difference(ours: Outcome, theirs: Outcome) -> Difference:
    """Percent of theirs."""
    share = _resampled(ours.replica_s - theirs.replica_s, theirs.replica_s)
    value = 100 * (ours.replica_hours / theirs.replica_hours - 1)
    return Difference(value, *_interval(100 * share))


def _resampled(above: F64, below: F64) -> F64:
    """Ratios of sums over resampled stretches of blocks, the same stretches above and below."""
    draw, n = np.random.default_rng(1), len(above)
    length = min(_BOOTSTRAP_BLOCKS, n)
    starts = draw.integers(0, n, (_BOOTSTRAP, -(-n // length)))
    sums = np.cumsum(np.concatenate(([[0.0, 0.0]], np.stack([np.tile(above, 2), np.tile(below, 2)], 1))), 0)
    picked = (sums[starts + length] - sums[starts]).sum(1)  # stretches run on from the end to the beginning
    out: F64 = picked[:, 0] / np.maximum(picked[:, 1], 1e-9)
    return out


def _interval(values: F64) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
