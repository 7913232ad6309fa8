"""Trials added up: power by fault, layer duration and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from layerwatch.evaluation.power.faults import FAULTS
from layerwatch.evaluation.power.study import Trial

#: What a fault that people should hear of must be detected in.
WANTED = 0.95


@dataclass(frozen=True, slots=True)
class Power:
    """`noticed` and `warned` of `trials`; delays are medians over the noticed ones; `placed`: those with a right place."""

    key: tuple[str, ...]
    harmless: bool
    trials: int
    noticed: int
    warned: int
    delay_executions: float | None
    delay_s: float | None
    placed: int
    place_right: int
    false_alarms: int

    @property
    def enough(self) -> bool:
        if self.harmless:
            return self.warned == 0
        return self.noticed >= WANTED * self.trials and self.place_right >= WANTED * self.placed


def by_class(trials: Iterable[Trial]) -> list[Power]:
    """By fault, layer duration and shapes, over all recordings."""
    return _grouped(trials, lambda trial: (trial.fault, trial.injected.duration, trial.injected.shapes))


def by_recording(trials: Iterable[Trial]) -> list[Power]:
    """By fault and recording."""
    return _grouped(trials, lambda trial: (trial.fault, trial.recording))


def power_record(trials: list[Trial], sample: float, counters: bool, seeds: int) -> dict[str, Any]:
    """Both tables as plain data for JSON."""

    def rows(names: tuple[str, ...], powers: list[Power]) -> list[dict[str, Any]]:
        return [
            dict(zip(names, power.key, strict=True))
            | {name: getattr(power, name) for name in Power.__slots__ if name != "key"}
            for power in powers
        ]

    return {
        "schema": "layerwatch.power/1",
        "sample": sample,
        "counters": counters,
        "seeds": seeds,
        "wanted": WANTED,
        "by_class": rows(("fault", "layer_duration", "shapes"), by_class(trials)),
        "by_recording": rows(("fault", "recording"), by_recording(trials)),
    }


def _grouped(trials: Iterable[Trial], key_of: Callable[[Trial], tuple[str, ...]]) -> list[Power]:
    order = [fault.name for fault in FAULTS]
    harmless = {fault.name for fault in FAULTS if fault.harmless}
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key_of(trial), []).append(trial)
    return [
        _power(key, key[0] in harmless, groups[key])
        for key in sorted(groups, key=lambda key: (order.index(key[0]), key[1:]))
    ]


def _power(key: tuple[str, ...], harmless: bool, trials: list[Trial]) -> Power:
    delays = [trial.delay_executions for trial in trials if trial.delay_executions is not None]
    delays_s = [trial.delay_s for trial in trials if trial.delay_s is not None]
    placed = [trial.place_right for trial in trials if trial.place_right is not None]
    return Power(
        key=key,
        harmless=harmless,
        trials=len(trials),
        noticed=sum(trial.noticed for trial in trials),
        warned=sum(trial.warned for trial in trials),
        delay_executions=median(delays) if delays else None,
        delay_s=round(median(delays_s), 3) if delays_s else None,
        placed=len(placed),
        place_right=sum(placed),
        false_alarms=sum(trial.false_alarm for trial in trials),
    )
