"""A loop that serves, with a real probe beside a fake of TensorRT and CUDA."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt

from layerwatch.probe import Probe

STREAM = 7


@contextmanager
def serving(folder: Path, instance: str, pause_s: float = 0.002) -> Iterator[Probe]:
    """A loop that serves until the end of the block, then says goodbye."""
    engine = FakeEngine(FakeCuda())
    probe = Probe(
        engine, service="bert-qa", instance=instance, folder=str(folder), trt=trt, cuda=engine.cuda, rate=0.0
    )
    hot = hot_context(engine)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.wait(pause_s):
            with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
                run.context.execute_async_v3(STREAM)
                engine.cuda.finish(STREAM)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield probe
    finally:
        stopping.set()
        thread.join()
        probe.close()
