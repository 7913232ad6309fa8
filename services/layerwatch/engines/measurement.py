"""What the probe costs on an engine: plain executions beside watched ones, in interleaved blocks, with 95 % intervals.

Blocks of executions come in a new random order each round, so that drift of clocks and heat meets all alike; each block of
the probe is paired with the plain one of its round. The first execution of a block is not counted: the probe reads a new order
then, as it does once a second in production.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from layerwatch.engines.intervals import percentile, relative_interval_pct
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe
from layerwatch.schemas import control_page
from layerwatch.schemas.control_page import Sampling
from layerwatch.schemas.errors import Unavailable

PLAIN = "plain"
_LEAST_ROUNDS = 3


class Figures(NamedTuple):
    """Of one way of executing. `more_pct` is what its mean takes more than plain: low end, mean, high end."""

    blocks: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    more_pct: tuple[float, float, float] | None


class Orders:
    """Writes a probe's control page, as an agent would."""

    def __init__(self, folder: Path) -> None:
        (page,) = folder.glob("[!.]*/control")
        self._fd = os.open(page, os.O_WRONLY | os.O_CLOEXEC)
        self._generation = 0

    def rate(self, rate: float) -> None:
        self._generation += 1
        order = Sampling("canary", rate, time.time() + 3600)
        os.pwrite(
            self._fd, control_page.encode_sampling(self._generation, order), control_page.SAMPLING_OFFSET
        )

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def watched(engine: Any, plan: Path, *, shares_profiles: bool = False) -> Iterator[tuple[Probe, Orders]]:
    """A probe that somebody listens to, and what orders its sampling. Raises Unavailable where it cannot work."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        drain = subprocess.Popen(
            [sys.executable, "-m", "layerwatch.engines.drain", folder], stdout=subprocess.PIPE
        )
        try:
            assert drain.stdout is not None
            drain.stdout.readline()
            probe = Probe(
                engine,
                service="measurement",
                plan=str(plan),
                folder=folder,
                rate=0.0,
                shares_profiles=shares_profiles,
            )
            if probe.problem:
                raise Unavailable(probe.problem)
            orders = Orders(Path(folder))
            try:
                yield probe, orders
            finally:
                orders.close()
                probe.close()
        finally:
            drain.kill()
            drain.communicate()


def compare(
    rig: Rig,
    probe: Probe,
    orders: Orders,
    rates: Mapping[str, float],
    *,
    graph: bool,
    executions: int,
    seconds: float,
    beside: Mapping[str, Callable[[], None]] | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> dict[str, Figures]:
    """Plain, the probe at each of `rates` by name, and other ways `beside`; `executions` a block, for so many seconds."""
    ways: dict[str, Callable[[], None]] = {PLAIN: partial(rig.plain, graph=graph)}
    ways |= dict.fromkeys(rates, partial(rig.probed, probe, graph=graph))
    ways |= beside or {}
    found = _measure(ways, executions, seconds, lambda name: orders.rate(rates.get(name, 0.0)), tell)
    return {name: _figures(name, found) for name in ways}


def _measure(
    ways: dict[str, Callable[[], None]],
    executions: int,
    seconds: float,
    prepare: Callable[[str], None],
    tell: Callable[[float], None],
) -> dict[str, list[list[float]]]:
    """Latencies in ms of each way by round, in a new order each round, until the time is over."""
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    order, rng = list(ways), random.Random(7)
    for name, run in ways.items():  # twins are made, kernels are loaded
        prepare(name)
        for _ in range(executions):
            run()
    began_s = time.monotonic()
    while (spent_s := time.monotonic() - began_s) < seconds or len(found[PLAIN]) < _LEAST_ROUNDS:
        tell(min(1.0, spent_s / seconds))
        rng.shuffle(order)
        for name in order:
            prepare(name)
            run, block = ways[name], []
            run()
            for _ in range(executions):
                began_ns = time.perf_counter_ns()
                run()
                block.append((time.perf_counter_ns() - began_ns) / 1e6)
            found[name].append(block)
    return found


def _figures(name: str, found: dict[str, list[list[float]]]) -> Figures:
    means = {way: [statistics.fmean(block) for block in blocks] for way, blocks in found.items()}
    every = [ms for block in found[name] for ms in block]
    return Figures(
        len(found[name]),
        statistics.fmean(every),
        percentile(every, 0.5),
        percentile(every, 0.99),
        percentile(every, 0.999),
        None if name == PLAIN else relative_interval_pct(means[PLAIN], means[name]),
    )
