"""Runs the detectors over injected faults: what was found, when, and where. The learnt state is restored for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.models import Models
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.executions import Ints
from layerwatch.evaluation.power.faults import BEFORE, FAULTS, Fault, Injected, block_of
from layerwatch.evaluation.power.healthy import Healthy, healthy_of
from layerwatch.evaluation.verdict import found_of
from layerwatch.recording.cut import Run, cut
from layerwatch.recording.recording import Recording
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.profiles import ProfileBatch

_START_S = 1_700_000_000.0

#: A fault that takes hours is injected for one seed of so many.
_SLOW_SHARE = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault injected once.

    `noticed`: an alert of any severity opened while it lasted; `warned`: one of warning or above. Delay and place are
    those of the first of any severity.
    """

    recording: str
    fault: str
    seed: int
    injected: Injected
    noticed: bool
    warned: bool
    delay_executions: int | None
    delay_s: float | None
    place_right: (
        bool | None
    )  # the right layer, or block, came first; None where there is none or nothing was found
    false_alarm: bool  # an alert of warning or above before the fault


@dataclass(slots=True)
class _Learnt:
    """What an instance knows after the healthy half."""

    state: dict[str, bytes]
    sequence: int
    end_s: float
    alerts: list[Alert] = field(default_factory=list)


def power_of(
    recording: Recording,
    condition: Condition,
    seeds: int,
    models: Models,
    progress: Callable[[int], None],
    faults: Iterable[Fault] = FAULTS,
) -> list[Trial]:
    """Inject each fault once for each seed; `progress` is told the trials that are done."""
    healthy = healthy_of(recording)
    learnt = _learn(healthy, condition, models)
    trials = []
    done = 0
    for fault in faults:
        for seed in range(seeds if fault.every_s is None else -(-seeds // _SLOW_SHARE)):
            trial = _trial(healthy, condition, learnt, fault, seed, models)
            trials += [] if trial is None else [trial]
            done += 1
            progress(done)
    return trials


def trials_of(seeds: int) -> int:
    """How many trials `power_of` makes of one recording."""
    return sum(seeds if fault.every_s is None else -(-seeds // _SLOW_SHARE) for fault in FAULTS)


def _learn(healthy: Healthy, condition: Condition, models: Models) -> _Learnt:
    run = healthy.run(np.arange(healthy.half), _START_S)
    batches = _batches(healthy, condition, run, 0)
    stage = InstanceStage({healthy.manifest.engine: healthy.manifest}, models)
    for batch in batches:
        stage.update(batch)
    return _Learnt(stage.dump(all=True), len(batches), float(run.times_s[-1]))


def _trial(
    healthy: Healthy, condition: Condition, learnt: _Learnt, fault: Fault, seed: int, models: Models
) -> Trial | None:
    rng = np.random.default_rng([seed, *fault.name.encode(), *healthy.name.encode()])
    at = _chosen(healthy, fault, rng)
    if fault.choose is not None:
        at = fault.choose(healthy, at, rng)
    wait_s = None if fault.every_s is None else np.full(len(at), fault.every_s)
    run = healthy.run(at, learnt.end_s, wait_s)
    injected = fault.inject(healthy, at, run, rng)
    if injected is None:
        return None
    stage = InstanceStage.restore(
        run.instance, learnt.state, {healthy.manifest.engine: healthy.manifest}, models
    )
    service = ServiceStage(run.service, silence_s=float("inf"))
    revisions: list[Alert] = []
    for batch in _batches(healthy, condition, run, learnt.sequence):
        signal = stage.update(batch)
        if signal is not None and stage.is_news(signal):
            revisions += service.update(signal, now_s=0.0)
    return _judged(healthy, fault, seed, injected, run, revisions)


def _judged(
    healthy: Healthy, fault: Fault, seed: int, injected: Injected, run: Run, revisions: list[Alert]
) -> Trial:
    onset_s = float(run.times_s[fault.before])
    warnings = [found.at_s for found in found_of(revisions)]
    first = next((found for found in found_of(revisions, "info") if found.at_s >= onset_s), None)
    right = None
    if first is not None and (injected.layer or injected.block):
        top = first.told.layers[0] if first.told.layers else None
        if injected.layer:
            right = top is not None and top.name == injected.layer
        else:
            right = top is not None and block_of(top.group) == injected.block
    return Trial(
        recording=healthy.name,
        fault=fault.name,
        seed=seed,
        injected=injected,
        noticed=first is not None,
        warned=any(at_s >= onset_s for at_s in warnings),
        delay_executions=None
        if first is None
        else int(np.searchsorted(run.times_s, first.at_s)) - fault.before,
        delay_s=None if first is None else first.at_s - onset_s,
        place_right=right,
        false_alarm=any(at_s < onset_s for at_s in warnings),
    )


def _chosen(healthy: Healthy, fault: Fault, rng: np.random.Generator) -> Ints:
    """Consecutive executions of the half that nothing was learnt from, round and round where they do not suffice."""
    second = np.arange(healthy.half, len(healthy))
    begin = int(rng.integers(len(second)))
    if fault.steady:
        stretch = healthy.stretch[second]
        whole = [
            i
            for i in range(0, len(second) - 2 * BEFORE, 10)
            if stretch[i] == stretch[i + BEFORE] == stretch[i + 3 * BEFORE // 2]
        ]
        begin = whole[int(rng.integers(len(whole)))] if whole else begin
    return np.resize(np.roll(second, -begin), fault.before + fault.executions)


def _batches(healthy: Healthy, condition: Condition, run: Run, sequence: int) -> list[ProfileBatch]:
    made = Recording(healthy.name, [healthy.manifest], list(cut(run))[:-1])  # the instance does not leave
    return [
        msgspec.structs.replace(batch, sequence=sequence + number)
        for number, batch in enumerate(condition.apply(made))
    ]
