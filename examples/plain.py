"""A runtime that executes eagerly, watched. `python examples/plain.py bert.plan [SECONDS]`

Run `layerwatch agent` beside it. Rig stands for what a runtime of yours has: a context, a stream, buffers.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe


def main(plan: str, seconds: str = "10") -> None:
    cuda = Driver()
    engine = load(Path(plan), trt)
    rig = Rig(cuda, engine, trt)
    rig.prepare(rig.usual_shapes(0))

    probe = Probe(engine, service="example-plain", plan=plan)
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        with probe.execution(rig.context, rig.stream, rig.shapes) as run:
            rig.copy_in()
            run.context.execute_async_v3(rig.stream)
            rig.copy_out()
            run.launched()
            cuda.synchronize(rig.stream)
    print(probe.problem or {name: count for name, count in probe.counters().items() if count})


if __name__ == "__main__":
    main(*sys.argv[1:])
