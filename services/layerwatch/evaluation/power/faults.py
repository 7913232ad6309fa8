"""Faults of known size, made by changing the arrays of healthy executions. Every choice comes from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from layerwatch.detectors.arrays import Bools
from layerwatch.evaluation.executions import Ints
from layerwatch.evaluation.power.healthy import Healthy
from layerwatch.recording.cut import LayerTable, Run

#: A layer is made slower only where that is worth so many ticks of the GPU's timer, of about 1 us each (ms).
_LEAST_EXCESS_MS = 3e-3

#: Layers are drawn evenly from these durations (ms).
DURATIONS_MS = {"10-20 us": (0.010, 0.020), "20-50 us": (0.020, 0.050), "50+ us": (0.050, np.inf)}

SHAPES = ("all shapes", "small shapes", "large shapes")

BEFORE = 300  # healthy executions ahead of the fault
_CREEP_EVERY_S = 1.0
_BEFORE_CREEP = round(10 * 3600 / _CREEP_EVERY_S)  # a creep is held against the hours before


@dataclass(frozen=True, slots=True)
class Injected:
    """What was made slower: `duration` and `shapes` name the class that power is told by; `layer` and `block` the place."""

    duration: str = ""
    shapes: str = ""
    layer: str = ""
    block: str = ""


Inject = Callable[[Healthy, Ints, Run, Generator], Injected | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. `executions` last it; `steady`: begins within one healthy phase; `harmless`: must never alarm.

    `inject` changes a run's arrays from row `before` on; None where the recording has no place for it. `choose` picks the executions, by default in their order.
    """

    name: str
    executions: int
    inject: Inject
    steady: bool = False
    harmless: bool = False
    choose: Callable[[Healthy, Ints, Generator], Ints] | None = None
    every_s: float | None = None  # time between executions, where not as recorded
    before: int = BEFORE  # healthy executions ahead of it


def nothing(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected:
    return Injected()


def one_layer(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected | None:
    """One layer x1.3, on all shapes or on the smaller or larger half of them; None where all layers are too short."""
    for shapes in rng.permutation(SHAPES).tolist():
        rows = _affected(healthy, at, shapes)
        classes = [
            (duration, number, layers)
            for number, table in enumerate(run.layers)
            for duration, layers in _long_enough(table, rows[table.rows]).items()
        ]
        if classes:
            duration, number, layers = classes[int(rng.integers(len(classes)))]
            index = int(rng.choice(layers))
            _slow_down(run, rows, {number: [index]}, 1.3)
            layer = healthy.manifest.profiles[_profile_at(healthy, run, number)].layers[index]
            return Injected(duration, shapes, layer.name, layer.group)
    return None


def _long_enough(table: LayerTable, rows: Bools) -> dict[str, Ints]:
    """The layers of each class of durations that a third more makes slower by 3 ticks and more."""
    if rows.sum() < BEFORE // 6:
        return {}
    usual_ms = np.median(table.times_ms[rows], axis=0)
    classes = {
        name: np.flatnonzero((usual_ms >= max(low, _LEAST_EXCESS_MS / 0.3)) & (usual_ms < high))
        for name, (low, high) in DURATIONS_MS.items()
    }
    return {name: layers for name, layers in classes.items() if len(layers)}


def block(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected | None:
    """All layers of a block x1.15, on all shapes or on half of them; None where no names tell of blocks."""
    shapes = next(shapes for shapes in rng.permutation(SHAPES) if _affected(healthy, at, shapes).any())
    rows = _affected(healthy, at, shapes)
    members: dict[str, dict[int, list[int]]] = {}
    for number in range(len(run.layers)):
        layers = healthy.manifest.profiles[_profile_at(healthy, run, number)].layers
        for index, layer in enumerate(layers):
            if layer.group:
                members.setdefault(block_of(layer.group), {}).setdefault(number, []).append(index)
    if not members:
        return None
    chosen = sorted(members)[int(rng.integers(len(members)))]
    _slow_down(run, rows, members[chosen], 1.15)
    return Injected(shapes=shapes, block=chosen)


def all_layers(factor: float) -> Inject:
    """Every layer slower alike."""

    def inject(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected:
        everything = {number: list(range(table.times_ms.shape[1])) for number, table in enumerate(run.layers)}
        _slow_down(run, np.arange(len(at)) >= BEFORE, everything, factor)
        return Injected()

    return inject


def end_to_end(factor: float) -> Inject:
    """Every execution longer, its layers as ever: the host, or what waits between the layers."""

    def inject(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected:
        run.end_to_end_ms[BEFORE:] *= factor
        return Injected()

    return inject


def spikes(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected:
    """0.3 % of executions take 8 times as long end to end, their layers as ever."""
    hit = (np.arange(len(at)) >= BEFORE) & (rng.random(len(at)) < 0.003)
    run.end_to_end_ms[hit] *= 8.0
    return Injected()


def creep(healthy: Healthy, at: Ints, run: Run, rng: Generator) -> Injected:
    """All layers slower by 5 % more each hour."""
    hours = (run.times_s - run.times_s[_BEFORE_CREEP]) / 3600.0
    factor = 1.0 + 0.05 * np.maximum(hours, 0.0)
    for table in run.layers:
        before_ms = table.times_ms.sum(axis=1)
        table.times_ms[:] *= factor[table.rows, None].astype(np.float32)
        run.end_to_end_ms[table.rows] += table.times_ms.sum(axis=1) - before_ms
    return Injected()


def other_shapes(healthy: Healthy, at: Ints, rng: Generator) -> Ints:
    """From row `BEFORE` on, only the larger or only the smaller third of the inputs."""
    size = healthy.size
    pool = np.arange(healthy.half, len(healthy))
    low, high = np.quantile(size[pool], (1 / 3, 2 / 3))
    chosen = pool[size[pool] >= high] if rng.random() < 0.5 else pool[size[pool] <= low]
    return np.concatenate(
        (at[:BEFORE], np.resize(np.roll(chosen, -int(rng.integers(len(chosen)))), len(at) - BEFORE))
    )


FAULTS = (
    Fault("one layer x1.3", 900, one_layer),
    Fault("a block x1.15", 900, block),
    Fault("all layers x1.3", 600, all_layers(1.3)),
    Fault("all layers x1.1, steady", 600, all_layers(1.1), steady=True),
    Fault("end to end x1.7", 600, end_to_end(1.7)),
    Fault("spikes: 0.3 % at 8x", 6000, spikes),
    Fault(
        "creep: 5 % an hour for 3 h",
        round(3 * 3600 / _CREEP_EVERY_S),
        creep,
        every_s=_CREEP_EVERY_S,
        before=_BEFORE_CREEP,
    ),
    Fault("shift of the shape mix", 900, nothing, harmless=True, choose=other_shapes),
    Fault("nothing", 900, nothing, harmless=True),
)


def block_of(group: str) -> str:
    """`blocks.7` of `blocks.7/attn`."""
    return group.partition("/")[0]


def _affected(healthy: Healthy, at: Ints, shapes: str) -> Bools:
    """Which executions of the fault are of a class of shapes."""
    size = healthy.size[at]
    ends = np.unique(size)[:-1]
    boundary = min(ends, key=lambda end: abs(np.mean(size <= end) - 0.5), default=size[0])
    of_it = {"all shapes": size > 0, "small shapes": size <= boundary, "large shapes": size > boundary}
    affected: Bools = of_it[shapes] & (np.arange(len(at)) >= BEFORE)
    return affected


def _slow_down(run: Run, rows: Bools, layers: dict[int, list[int]], factor: float) -> None:
    """Layers by number of their table; their excess is added to the end-to-end times."""
    for number, indices in layers.items():
        table = run.layers[number]
        hit = np.flatnonzero(rows[table.rows])
        cells = np.ix_(hit, np.array(indices))
        excess_ms = table.times_ms[cells] * np.float32(factor - 1)
        table.times_ms[cells] += excess_ms
        run.end_to_end_ms[table.rows[hit]] += excess_ms.sum(axis=1)


def _profile_at(healthy: Healthy, run: Run, number: int) -> int:
    """Place in the manifest of the profile of a run's table."""
    profiles = [profile.profile for profile in healthy.manifest.profiles]
    return profiles.index(run.layers[number].profile)
