"""Four threads, each with a stream and a context of its own, on one engine. `python examples/several_streams.py bert.plan [SECONDS]`

One probe serves all threads. With TensorRT before 10 the engine needs PreviewFeature.PROFILE_SHARING_0806, which
`layerwatch engine build` sets.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe

THREADS = 4


def main(plan: str, seconds: str = "10") -> None:
    cuda = Driver()
    engine = load(Path(plan), trt)
    rigs = [Rig(cuda, engine, trt) for _ in range(THREADS)]
    for rig in rigs:
        rig.prepare(rig.usual_shapes(0))

    probe = Probe(engine, service="example-streams", plan=plan)
    end_s = time.monotonic() + float(seconds)
    threads = [threading.Thread(target=serve, args=(probe, rig, end_s)) for rig in rigs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(probe.problem or {name: count for name, count in probe.counters().items() if count})


def serve(probe: Probe, rig: Any, end_s: float) -> None:
    cuda = Driver()  # makes the GPU current in this thread
    while time.monotonic() < end_s:
        with probe.execution(rig.context, rig.stream, rig.shapes) as run:
            rig.copy_in()
            run.context.execute_async_v3(rig.stream)
            rig.copy_out()
            run.launched()
            cuda.synchronize(rig.stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
