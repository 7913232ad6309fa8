"""A context for each optimization profile, so that none ever switches. `python examples/context_per_profile.py bert.plan [SECONDS]`

Build the engine with several profiles: `layerwatch engine build bert.onnx --batch 1:1:8 --length 1:64:128 --length 129:256:512`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import tensorrt as trt

from layerwatch.engines import ContextPool
from layerwatch.engines.driver import Driver
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe


def main(plan: str, seconds: str = "10") -> None:
    cuda = Driver()
    engine = load(Path(plan), trt)
    profiles = range(engine.num_optimization_profiles)
    rig = Rig(cuda, engine, trt)
    rig.prepare(rig.usual_shapes(profiles[-1]), profiles[-1])  # its buffers are large enough for all
    requests = [rig.usual_shapes(profile) for profile in profiles]

    pool = ContextPool(engine, rig.stream)
    for context in pool.contexts:
        for name, address in rig.device.items():
            context.set_tensor_address(name, address)
    probe = Probe(engine, service="example-pool", plan=plan)
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        shapes = random.choice(requests)
        context = pool.context(shapes)
        with probe.execution(context, rig.stream, shapes) as run:
            rig.copy_in()
            run.context.execute_async_v3(rig.stream)
            rig.copy_out()
            run.launched()
            cuda.synchronize(rig.stream)
    print(probe.problem or {name: count for name, count in probe.counters().items() if count})


if __name__ == "__main__":
    main(*sys.argv[1:])
