"""Months in which nothing is wrong: how often the slow path pages, beside what it finds at the same settings.

The very detectors of the processor run here, on levels of blocks instead of executions, for many services at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F32, Bools, Ints
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.page_budget import PageBudget
from layerwatch.detectors.slow.path import PAGES_PER_MONTH
from layerwatch.detectors.slow.path import STREAMS as STREAMS_OF_AN_INSTANCE
from layerwatch.detectors.slow.watch import MONTH_BLOCKS, Watch
from layerwatch.evaluation.noise import Draw, Noise
from layerwatch.schemas.alerts import Impact

#: Independent levels of each simulated service: what the GPU does and what the host does make up all others.
_STREAMS = 2
AT_ONCE = 100  # services simulated side by side
_BLOCK_S = 60.0

_LEARNT_BLOCKS = 1440  # before a fault is injected
_STEP_BLOCKS, _CREEP_BLOCKS = 120, 240  # in which it has to be found
_POWER_SERVICES = 60

#: Name, shift at once, shift an hour (log units).
FAULTS = (
    ("step +10 %", math.log(1.10), 0.0, _STEP_BLOCKS),
    ("step +20 %", math.log(1.20), 0.0, _STEP_BLOCKS),
    ("creep +5 %/h", 0.0, math.log(1.05), _CREEP_BLOCKS),
)


@dataclass(frozen=True, slots=True)
class Power:
    """`found`: share of services; `blocks`: the median of those that found it, None where none did."""

    fault: str
    found: float
    blocks: float | None


@dataclass(frozen=True, slots=True)
class NullMonths:
    """One kind of noise. Rates are pages a service-month; `most` are upper bounds at 95 %."""

    kind: str
    months: int
    pages: int
    pages_most: float
    pages_after_cap: int
    after_cap_most: float
    info: int  # alerts only worth knowing
    degraded: float  # share of services that end the month degraded
    power: list[Power]


def null_months(
    kind: str,
    noise: Noise,
    months: int,
    lstm: LstmWeights | None,
    seed: int,
    progress: Callable[[int], None],
    blocks: int = MONTH_BLOCKS,
) -> NullMonths:
    """Simulate `months` service-months of one kind of noise. `progress(blocks done)` counts each chunk's."""
    pages = after_cap = info = ends_degraded = 0
    done = 0
    for start in range(0, months, AT_ONCE):
        services = min(AT_ONCE, months - start)
        draw = np.random.default_rng([seed, start])
        levels = noise(draw, blocks, services * _STREAMS)
        watch = _watch(services, draw, lstm)
        budgets = [PageBudget() for _ in range(services)]
        for block, (paged, told) in enumerate(_run(watch, levels)):
            for service in np.flatnonzero(paged).tolist():
                pages += 1
                after_cap += not budgets[service].ask(
                    "precursor", "precursor", "warning", _UNFELT, block * _BLOCK_S
                )
            info += int(told.sum())
            if block % 100 == 0:
                progress(done + block)
        done += blocks
        ends_degraded += int(watch.degraded.reshape(services, -1).any(1).sum())
    return NullMonths(
        kind=kind,
        months=months,
        pages=pages,
        pages_most=at_most(pages) / months,
        pages_after_cap=after_cap,
        after_cap_most=at_most(after_cap) / months,
        info=info,
        degraded=ends_degraded / months,
        power=_power(noise, lstm, seed),
    )


def at_most(events: int, confidence: float = 0.95) -> float:
    """The largest mean of a Poisson count that is still to be believed after so many events (Garwood 1936)."""
    low, high = float(events), 3.0 * events + 20.0
    for _ in range(60):
        middle = (low + high) / 2
        log_terms = [k * math.log(middle) - middle - math.lgamma(k + 1) for k in range(events + 1)]
        low, high = (middle, high) if sum(map(math.exp, log_terms)) > 1 - confidence else (low, middle)
    return high


_UNFELT = Impact(0, 0, 1.1, 1.1, 0.0, 0.0)


def _watch(services: int, draw: Draw, lstm: LstmWeights | None) -> Watch:
    streams = services * _STREAMS
    watch = Watch(streams, draw.integers(0, 2**63, streams, dtype=np.uint64), lstm)
    watch.threshold = MONTH_BLOCKS * STREAMS_OF_AN_INSTANCE / PAGES_PER_MONTH  # as on an instance
    return watch


def _run(watch: Watch, levels: F32) -> Iterator[tuple[Bools, Bools]]:
    """Of each block: services [n] that page with it, and those that tell something else; one episode at a time, as on an
    instance."""
    services = levels.shape[1] // _STREAMS
    open_pages = np.zeros(services, bool)
    open_info = np.zeros(services, bool)
    for block, values in enumerate(levels):
        watch.update(values.astype(np.float64), block)
        alarm = (watch.alarm > 0).reshape(services, _STREAMS)
        believed = (alarm & ~watch.doubtful.reshape(services, _STREAMS)).any(1)
        paged, told = believed & ~open_pages, alarm.any(1) & ~believed & ~open_info & ~open_pages
        anything = alarm.any(1)
        open_pages = (open_pages | paged) & anything
        open_info = (open_info | told) & anything
        yield paged, told


def _power(noise: Noise, lstm: LstmWeights | None, seed: int) -> list[Power]:
    """Each fault in services of its own, on all their levels, at some block of an hour after a day."""
    services = _POWER_SERVICES * len(FAULTS)
    draw = np.random.default_rng([seed, 7])
    blocks = _LEARNT_BLOCKS + 60 + _CREEP_BLOCKS
    levels = noise(draw, blocks, services * _STREAMS)
    begins: Ints = _LEARNT_BLOCKS + draw.integers(0, 60, services)
    after = np.arange(blocks)[:, None] - begins  # blocks since the fault began
    fault = np.repeat(np.arange(len(FAULTS)), _POWER_SERVICES)
    step = np.array([f[1] for f in FAULTS])[fault]
    hourly = np.array([f[2] for f in FAULTS])[fault]
    within = np.array([f[3] for f in FAULTS])[fault]
    shift = np.where(after >= 0, step + hourly * np.maximum(after, 0) / 60, 0.0)
    levels += np.repeat(shift, _STREAMS, 1).astype(np.float32)
    found = np.full(services, -1)
    for block, (paged, _) in enumerate(_run(_watch(services, draw, lstm), levels)):
        due = paged & (found < 0) & (after[block] >= 0) & (after[block] < within)
        found[due] = after[block][due] + 1
    out = []
    for i, (name, *_) in enumerate(FAULTS):
        hits = found[(fault == i) & (found > 0)]
        blocks_needed = float(np.median(hits)) if len(hits) else None
        out.append(Power(name, len(hits) / _POWER_SERVICES, blocks_needed))
    return out
