"""What a probe writes down of executions drawn at random, without their times. `probe_story.py FOLDER SEED`: one JSON object."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any

from fake_tensorrt import FakeContext, FakeCuda, FakeEngine, hot_context, trt
from listener import Listener

from layerwatch.probe import Probe, lane

_STREAM = 7
_LENGTHS = (1, 32, 32, 32, 64, 128, 511)


def main(folder: str, seed: str) -> None:
    lane._BUSY_NS = random.Random(seed).choice(
        [0, 1 << 62]
    )  # never busy, or always: whatever the machine's pace
    listener = Listener(Path(folder))
    print(json.dumps(tell(listener, random.Random(int(seed)))))
    listener.close()


def tell(listener: Listener, rng: random.Random) -> dict[str, Any]:
    engine = FakeEngine(FakeCuda(), profiles=rng.choice([1, 2]))
    probe = Probe(
        engine,
        service="story",
        folder=str(listener.folder),
        trt=trt,
        cuda=engine.cuda,
        rate=rng.choice([0.0, 0.01, 0.2]),
    )
    contexts = [hot_context(engine) for _ in range(3)]
    samples = []
    for _ in range(400):
        samples += listener.samples()
        if rng.random() < 0.02:
            listener.order("canary", rng.choice([0.0, 0.05, 1.0]), rng.choice([1e-9, 60.0]))
        if rng.random() < 0.01:
            contexts[rng.randrange(3)] = hot_context(engine)
        with contextlib.suppress(ZeroDivisionError):
            execute(probe, rng.choice(contexts), rng)
    counters = probe.counters()
    counters.pop("overhead_ns")
    probe.close()
    samples += listener.samples()
    return {
        "executions": [
            (
                e.position,
                e.profile,
                e.flags,
                e.context,
                e.since_change,
                e.dimensions,
                e.request_id,
                e.host_ns < 1 << 60,
            )
            for e in listener.executions()
        ],
        "samples": [(s.ring, s.position, s.profile) for s in samples],
        "counters": counters,
        "broken": engine.broken_rules,
    }


def execute(probe: Probe, hot: FakeContext, rng: random.Random) -> None:
    if hot.engine.num_optimization_profiles > 1 and rng.random() < 0.1:
        hot.set_optimization_profile_async(rng.randrange(2), _STREAM)
    dims = (rng.choice([1, 1, 8]), rng.choice(_LENGTHS))
    hot.set_input_shape("ids", dims)
    shapes: Any = rng.choice([{"ids": dims}, {"ids": dims}, {"ids": dims}, {"ids": list(dims)}, None])
    with probe.execution(
        hot, _STREAM, shapes, graph=rng.random() < 0.3, request_id=rng.choice([0, 5, -1])
    ) as run:
        run.context.execute_async_v3(_STREAM)
        if rng.random() < 0.8:
            run.launched()
        hot.engine.cuda.finish(_STREAM)
        if rng.random() < 0.02:
            raise ZeroDivisionError


if __name__ == "__main__":
    main(*sys.argv[1:])
