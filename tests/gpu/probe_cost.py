"""What the probe costs on a real engine and GPU: plain against the probe at 0, 0.1, 1, 10 and 100 %, eager and as CUDA graph.

    PYTHONPATH=schemas:services python tests/gpu/probe_cost.py --plan bert.plan --shapes 1x32 1x128 8x128 8x512

As `layerwatch doctor --engine` measures, with shapes of your choice (all inputs have the same), whether results are equal bit
by bit, and with `--hog` beside a busy Python thread and a profiler used the synchronous way. What runs in production, 0 and
0.1 %, is measured for itself and longer, beside plain executions once more (how those differ from plain is noise), beside a
`with lock:` around them, and beside a clock read by hand, the least that one would write oneself. JSON lines, then a table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.measurement import PLAIN, Figures, Orders, compare, watched
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe, usual

USUAL_RATES = {"probe 0 %": 0.0, "probe 0.1 %": 0.001}
RAISED_RATES = {"probe 1 %": 0.01, "probe 10 %": 0.1, "probe 100 %": 1.0}


class Hog:
    """A thread that computes in Python while the block runs."""

    def __enter__(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._compute)
        self._thread.start()

    def _compute(self) -> None:
        while not self._stopping:
            sum(range(1000))

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()


def synchronous(rig: Rig) -> Callable[[], None]:
    """The naive way: a context whose profiler is called from within enqueue."""

    class Names(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: list[float] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.append(ms)

    context, profiler = rig.engine.create_execution_context(), Names()
    context.profiler = profiler
    for name, address in rig.device.items():
        context.set_tensor_address(name, address)
    for name in rig.inputs:
        context.set_input_shape(name, rig.shapes[name])

    def run() -> None:
        rig.copy_in()
        context.execute_async_v3(rig.stream)
        rig.copy_out()
        rig.cuda.synchronize(rig.stream)
        profiler.times_ms.clear()

    return run


def instead(plain: Callable[[], None]) -> dict[str, Callable[[], None]]:
    """What nobody would call a cost, around a plain execution."""
    lock, times_ns = threading.RLock(), deque[int](maxlen=8192)

    def locked() -> None:
        with lock:
            plain()

    def timed() -> None:
        began_ns = time.perf_counter_ns()
        plain()
        times_ns.append(time.perf_counter_ns() - began_ns)

    return {"plain again": plain, "with lock": locked, "own clock": timed}


def same_results(rig: Rig, probe: Probe, orders: Orders) -> dict[str, Any]:
    """Whether two plain runs give the same bytes, and the twin gives them too."""
    rig.spoil()
    rig.plain(graph=False)
    first = rig.results()
    rig.spoil()
    rig.plain(graph=False)
    repeatable = rig.results() == first
    orders.rate(1.0)
    rig.probed(probe, graph=False)  # the first one of a twin is no sample
    before = probe.counters()["sampled"]
    rig.spoil()
    rig.probed(probe, graph=False)
    return {
        "repeatable": repeatable,
        "twin_equal": rig.results() == first,
        "sampled": probe.counters()["sampled"] - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True, type=Path)
    parser.add_argument("--shapes", nargs="+", default=["1x32", "1x128", "8x128", "8x512"])
    parser.add_argument("--executions", type=int, default=10, help="of a block")
    parser.add_argument(
        "--seconds",
        type=float,
        default=50.0,
        help="for 0 and 0.1 %% at each shape and kind of hot path; a quarter of it for more",
    )
    parser.add_argument("--paths", nargs="+", choices=["eager", "graph"], default=["eager", "graph"])
    parser.add_argument("--hog", action="store_true")
    given = parser.parse_args()
    cuda = Driver()
    engine = load(given.plan, trt)
    rig, rows = Rig(cuda, engine, trt), []
    with watched(engine, given.plan) as (probe, orders):
        for text in given.shapes:
            rig.prepare(dict.fromkeys(rig.inputs, tuple(int(d) for d in text.split("x"))))
            used = cuda.used_bytes()
            tell({"measure": "results", "shape": text, **same_results(rig, probe, orders)})
            for path in given.paths:
                for rates, beside, seconds in (
                    (USUAL_RATES, instead(partial(rig.plain, graph=path == "graph")), given.seconds),
                    (RAISED_RATES, {"synchronous": synchronous(rig)} if given.hog else {}, given.seconds / 4),
                ):
                    with Hog() if given.hog else contextlib.nullcontext():
                        found = compare(
                            rig,
                            probe,
                            orders,
                            rates,
                            graph=path == "graph",
                            executions=given.executions,
                            seconds=seconds,
                            beside=beside,
                        )
                    rows += [(text, path, name, figures) for name, figures in found.items()]
                    for name, figures in found.items():
                        tell(
                            {
                                "measure": "probe_cost",
                                "shape": text,
                                "path": path,
                                "hog": given.hog,
                                "way": name,
                            }
                            | figures._asdict()
                        )
        tell(
            {
                "measure": "probe",
                "tensorrt": trt.__version__,
                "layers": engine.num_layers,
                "twin_stated_mib": probe.twin_bytes() >> 20,
                "taken_mib": (cuda.used_bytes() - used) >> 20,
                "refusals": probe.refusals,
                "compiled": usual.COMPILED,
                **probe.counters(),
            }
        )
    table(rows)


def tell(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def table(rows: list[tuple[str, str, str, Figures]]) -> None:
    print("| shape | hot path | way | mean ms | more than plain, 95 % | p99 ms | p99.9 ms | blocks |")
    print("|---|---|---|---|---|---|---|---|")
    for shape, path, name, found in rows:
        more = ""
        if name != PLAIN and found.more_pct is not None:
            low, middle, high = found.more_pct
            more = f"{middle:+.2f} % ({low:+.2f} .. {high:+.2f})"
        print(
            f"| {shape} | {path} | {name} | {found.mean_ms:.3f} | {more} | {found.p99_ms:.3f} "
            f"| {found.p999_ms:.3f} | {found.blocks} |"
        )


if __name__ == "__main__":
    main()
