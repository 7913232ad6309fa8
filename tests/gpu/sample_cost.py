"""Where the time of a sampled execution goes: TensorRT's part bare, and the same in the probe. `sample_cost.py PLAN BATCHxLENGTH`

Bare, a profiled context does what a twin does, in each of several settings: what is on the stream, what else ran before the
report or is running meanwhile (`rest` is what is left to wait for then). `watched` is the probe itself at 100 % and 10 %.
Medians in us, JSON lines.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.measurement import watched
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe.sampling import Sampling
from layerwatch.probe.twin import Twin, recorder_class

_TIMES = 100
#: Of a bare context: no NVTX ranges, copies around the execution, shapes and addresses set each time, the caller's own
#: execution before the report, or begun before it.
_SETTINGS = {
    "bare": (),
    "no nvtx": ("nvtx",),
    "copies": ("copies",),
    "set anew": ("anew",),
    "another first": ("another",),
    "another meanwhile": ("meanwhile",),
    "no nvtx, copies, set anew": ("nvtx", "copies", "anew"),
    "all, another first": ("nvtx", "copies", "anew", "another"),
    "all, another meanwhile": ("nvtx", "copies", "anew", "meanwhile"),
}


def main(plan: str, shape: str) -> None:
    cuda, engine = Driver(), load(Path(plan), trt)
    rig = Rig(cuda, engine, trt)
    rig.prepare(dict.fromkeys(rig.inputs, tuple(int(d) for d in shape.split("x"))))
    for name, setting in _SETTINGS.items():
        tell(name, shape, bare(rig, setting))
    with watched(engine, Path(plan)) as (probe, orders):
        for rate, graph in ((1.0, False), (1.0, True), (0.1, False), (0.1, True)):
            orders.rate(rate)
            found = clocked(partial(rig.probed, probe, graph=graph))
            tell(f"watched, {rate:.0%} sampled, {'graph' if graph else 'eager'}", shape, found)


def bare(rig: Rig, setting: tuple[str, ...]) -> dict[str, list[float]]:
    context, profiler = rig.engine.create_execution_context(), recorder_class(trt)()
    if "nvtx" in setting:
        context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
    context.enqueue_emits_profile, context.profiler, profiler.naming = False, profiler, False
    settle(rig, context)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(_TIMES):
        profiler.clear()
        if "anew" in setting:
            settle(rig, context)
        began_ns = time.perf_counter_ns()
        if "copies" in setting:
            rig.copy_in()
        context.execute_async_v3(rig.stream)
        if "copies" in setting:
            rig.copy_out()
        launched_ns = time.perf_counter_ns()
        rig.cuda.synchronize(rig.stream)
        done_ns = time.perf_counter_ns()
        if "another" in setting:
            rig.plain(graph=True)
        if "meanwhile" in setting:
            rig.cuda.launch(rig.graph, rig.stream)
        reported_from_ns = time.perf_counter_ns()
        context.report_to_profiler()
        reported_ns = time.perf_counter_ns()
        rig.cuda.synchronize(rig.stream)
        found["enqueue"].append(launched_ns - began_ns)
        found["wait"].append(done_ns - launched_ns)
        found["report"].append(reported_ns - reported_from_ns)
        found["rest"].append(time.perf_counter_ns() - reported_ns)
    return found


def settle(rig: Rig, context: Any) -> None:
    for name in rig.inputs:
        context.set_input_shape(name, rig.shapes[name])
    for name, address in rig.device.items():
        context.set_tensor_address(name, address)


def clocked(run: Callable[[], None]) -> dict[str, list[float]]:
    """What the probe's own steps take while it runs."""
    found: dict[str, list[float]] = defaultdict(list)
    steps = (Sampling, "claim"), (Twin, "report"), (Sampling, "finish")
    before: list[Any] = [getattr(owner, name) for owner, name in steps]

    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def clock(*given: Any) -> Any:
            began_ns = time.perf_counter_ns()
            try:
                return step(*given)
            finally:
                found[name].append(time.perf_counter_ns() - began_ns)

        return clock

    for (owner, name), step in zip(steps, before, strict=True):
        setattr(owner, name, timed(name, step))
    try:
        for _ in range(4 * _TIMES):
            run()
    finally:
        for (owner, name), step in zip(steps, before, strict=True):
            setattr(owner, name, step)
    return found


def tell(way: str, shape: str, found: dict[str, list[float]]) -> None:
    medians = {f"{name}_us": round(statistics.median(values) / 1e3, 1) for name, values in found.items()}
    print(json.dumps({"measure": "sample_cost", "way": way, "shape": shape, **medians}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
