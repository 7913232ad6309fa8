"""What a context that switches its optimization profile costs, and a context for each profile does not. `profile_switch.py PLAN SECONDS`

For an engine of two profiles (lengths to 128, and beyond). The same requests, one in a hundred of them long, in blocks that
come in turn: never switching (the short ones first, then the long ones, switched outside of the timing), a ContextPool, and one
context that switches.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt as trt

from layerwatch.engines import ContextPool
from layerwatch.engines.driver import Driver
from layerwatch.engines.intervals import percentile
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig

_REQUESTS = 200
_LONG = 0.01


def main(plan: str, seconds: str) -> None:
    cuda, rng = Driver(), random.Random(11)
    engine = load(Path(plan), trt)
    rig = Rig(cuda, engine, trt)
    rig.prepare(rig.usual_shapes(1), 1)
    pool = ContextPool(engine, rig.stream)
    one = engine.create_execution_context()
    for context in (*pool.contexts, one):
        for name, address in rig.device.items():
            context.set_tensor_address(name, address)

    def execute(context: Any, length: int) -> None:
        for name in rig.inputs:
            context.set_input_shape(name, (1, length))
        context.execute_async_v3(rig.stream)
        cuda.synchronize(rig.stream)

    def pooled(length: int) -> None:
        context = pool.context(dict.fromkeys(rig.inputs, (1, length)))
        context.execute_async_v3(rig.stream)
        cuda.synchronize(rig.stream)

    def switching(length: int) -> None:
        profile = int(length > 128)
        if one.active_optimization_profile != profile:
            one.set_optimization_profile_async(profile, rig.stream)
        execute(one, length)

    def never(length: int) -> None:
        execute(pool.contexts[length > 128], length)

    ways: dict[str, Callable[[int], None]] = {"never": never, "pool": pooled, "switching": switching}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for length in range(8, 513, 8):  # kernels are loaded
        for run in ways.values():
            run(length)
    end_s, order = time.monotonic() + float(seconds), list(ways)
    while time.monotonic() < end_s:
        requests = [
            rng.randrange(136, 513, 8) if rng.random() < _LONG else rng.randrange(8, 129, 8)
            for _ in range(_REQUESTS)
        ]
        rng.shuffle(order)
        for name in order:
            ways[name](64)
            for length in sorted(requests, key=lambda n: n > 128) if name == "never" else requests:
                began_ns = time.perf_counter_ns()
                ways[name](length)
                found[name].append((time.perf_counter_ns() - began_ns) / 1e6)
    for name, values in found.items():
        shares = {f"p{100 * share:g}_ms": round(percentile(values, share), 3) for share in (0.5, 0.99, 0.999)}
        print(
            json.dumps({"measure": "profile_switch", "way": name, "requests": len(values), **shares}),
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
