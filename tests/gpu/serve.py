"""Serves random requests for a while, watched, as a runtime behind a queue would. `serve.py PLAN SECONDS [SEED]`

Batch 1, 2 or 4, lengths from 8 to 128 in steps of 8, most of them short; 2 ms between requests on average. Used beside a
neighbour on the GPU and `layerwatch agent --to FILE`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.probe import Probe

_PAUSE_S = 0.002


def main(plan: str, seconds: str, seed: str = "5") -> None:
    cuda, rng = Driver(), random.Random(int(seed))
    engine = load(Path(plan), trt)
    rig = Rig(cuda, engine, trt)
    rig.prepare(dict.fromkeys(rig.inputs, (4, 128)))
    probe = Probe(engine, service="cotenant-h200", plan=plan)
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        length = min(128, max(8, round(rng.lognormvariate(4.0, 0.5) / 8) * 8))
        shape = (rng.choice((1, 1, 1, 2, 4)), length)
        shapes = dict.fromkeys(rig.inputs, shape)
        for name in rig.inputs:
            rig.context.set_input_shape(name, shape)
        with probe.execution(rig.context, rig.stream, shapes) as run:
            rig.copy_in()
            run.context.execute_async_v3(rig.stream)
            rig.copy_out()
            run.launched()
            cuda.synchronize(rig.stream)
        time.sleep(rng.expovariate(1 / _PAUSE_S))
    probe.close()
    print(probe.problem or probe.counters(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
