"""Two engines choose, the third tests: `python tests/benchmarks/two_choose.py FILE... -- FILE... -- FILE...`

For each of the groups of recordings, strictness and default forest are chosen on the two others: the forest is fitted on their healthy
windows, and all thresholds and least effects of the fast path are taken times one factor, which is the one that finds most of their
faults in time less false alarms (the middle one of several). What was chosen then judges the third, beside what is shipped.
Each recording is run as it was made, and with its phases in other orders.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from layerwatch.cli.progress import Progress
from layerwatch.detectors import (
    execution_watch,
    learned,
    level_watch,
    precision_watch,
    scan,
    switch_watch,
    window_watch,
)
from layerwatch.detectors.models import Models, shipped
from layerwatch.evaluation.executions import tables_of
from layerwatch.evaluation.run import alerts_of
from layerwatch.evaluation.shuffled import shuffled
from layerwatch.evaluation.verdict import judge
from layerwatch.recording.open import open_recording
from layerwatch.recording.recording import Recording
from layerwatch.training.fit_forest import fit_forest
from layerwatch.training.harvest import gathered, harvest

FACTORS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0)
ORDERS = 1

#: What has to be exceeded, as constants of the detectors, and as functions of what an instance does while healthy.
CONSTANTS = {
    execution_watch: ("_LOCAL_CONTRAST", "_SPIKE"),
    switch_watch: ("_SPIKE", "_SLOW"),
    level_watch: ("_LAYER", "_GROUP", "_COMMON", "_LAYER_SPREADS", "_GROUP_SPREADS", "_COMMON_SPREADS"),
    window_watch: ("_FOREST_WIDEST", "_FOREST_LEAST", "_SURPRISE", "_SURPRISE_EFFECT"),
    precision_watch: ("_TIMES_USUAL", "_LEAST_CLIPPED", "_ERROR_TIMES_USUAL", "_LEAST_ERROR"),
}
LEARNT = ("host_tail", "host_levels", "slice_share", "common_mode", "sum_level")
SHIPPED = {(module, name): getattr(module, name) for module, names in CONSTANTS.items() for name in names}
SHIPPED |= {(learned, name): getattr(learned, name) for name in LEARNT}
ALPHA = scan._ALPHA


@dataclass(frozen=True, slots=True)
class Count:
    faults: int = 0
    caught: int = 0
    in_time: int = 0
    causes: int = 0
    false_alarms: int = 0
    healthy_s: float = 0.0

    @property
    def worth(self) -> int:
        return self.in_time - self.false_alarms

    def __str__(self) -> str:
        return (
            f"{self.caught} of {self.faults}, {self.in_time} in time, {self.causes} causes, "
            f"{self.false_alarms} false in {self.healthy_s:.0f} s"
        )


def added(counts: Sequence[Count]) -> Count:
    return Count(*map(sum, zip(*map(astuple, counts), strict=True)))


def make_stricter(factor: float) -> None:
    """All thresholds times a factor; 1 is what is shipped. A scan over hits asks for more of them, as a p-value's exponent."""
    for (module, name), value in SHIPPED.items():
        setattr(module, name, _scaled(value, factor) if callable(value) else factor * value)
    scan._ALPHA = ALPHA**factor
    scan.hits_needed.cache_clear()


def _scaled(threshold: Any, factor: float) -> Any:
    def scaled(*values: Any) -> Any:
        found = threshold(*values)
        return tuple(factor * each for each in found) if isinstance(found, tuple) else factor * found

    return scaled


def judged(recording: Recording, models: Models) -> Count:
    faults_of = judge(recording.phases, alerts_of(recording, models)[0], tables_of(recording))
    faults = faults_of.faults
    return Count(
        len(faults),
        sum(v.caught for v in faults),
        sum(v.in_time for v in faults),
        sum(v.cause_right is True for v in faults),
        len(faults_of.false_alarms),
        faults_of.healthy_s,
    )


def groups(arguments: list[str]) -> Iterator[list[Recording]]:
    for separates, files in groupby(arguments, lambda argument: argument == "--"):
        if not separates:
            yield [open_recording(Path(file)) for file in files]


def main(arguments: list[str]) -> None:
    recordings = list(groups(arguments))
    if len(recordings) != 3:
        raise SystemExit(
            f"{len(recordings)} groups of recordings where three are needed: FILE... -- FILE... -- FILE..."
        )
    windows = [
        np.concatenate([gathered(harvest(r.manifests, r, lambda _: None)).all_windows() for r in group])
        for group in recordings
    ]
    played = [
        [r, *(shuffled(r, seed) for seed in range(1, ORDERS + 1))] for group in recordings for r in group
    ]
    owners = [n for n, group in enumerate(recordings) for _ in group]
    total = sum(map(len, played)) * (3 * len(FACTORS) + 1)
    done = 0
    with Progress("judge", total, "runs") as progress:

        def all_groups(models: Models, factor: float) -> list[Count]:
            nonlocal done
            make_stricter(factor)
            counts: list[list[Count]] = [[] for _ in recordings]
            for owner, orders in zip(owners, played, strict=True):
                for order in orders:
                    counts[owner].append(judged(order, models))
                    done += 1
                    progress(done)
            return [added(count) for count in counts]

        as_shipped = all_groups(shipped(), 1.0)
        for third, group in enumerate(recordings):
            others = [n for n in range(3) if n != third]
            forest = fit_forest(np.concatenate([windows[n] for n in others]))
            models = replace(shipped(), forest=forest)
            by_factor = {factor: all_groups(models, factor) for factor in FACTORS}
            worth = {factor: added([counts[n] for n in others]).worth for factor, counts in by_factor.items()}
            best = [factor for factor in FACTORS if worth[factor] == max(worth.values())]
            chosen = best[(len(best) - 1) // 2]
            print(f"tested on {', '.join(r.name for r in group)}")
            print(
                f"  chosen: thresholds x{chosen:g} (as good: {', '.join(f'x{f:g}' for f in best)}), forest of {len(np.concatenate([windows[n] for n in others]))} windows"
            )
            print(f"  where it was chosen  {added([by_factor[chosen][n] for n in others])}")
            print(f"  on the third         {by_factor[chosen][third]}")
            print(f"  as shipped           {as_shipped[third]}")
            print(
                "  on the third, by factor: "
                + "; ".join(
                    f"x{f:g} {c[third].in_time}/{c[third].false_alarms}" for f, c in by_factor.items()
                ),
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
