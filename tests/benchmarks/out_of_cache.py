"""What an execution that is not sampled costs when nothing of the probe is in the CPU's caches, as between two requests.

Before each part a sweep over 8 MiB of data and 512 KiB of code puts everything else out of the caches of a core (x86-64).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt

from layerwatch.probe import Probe, usual

_ROUNDS = 1500
_DATA_BYTES, _CODE_BYTES, _LINE = 8 << 20, 512 << 10, 64


class Sweep:
    """Call it, and caches hold nothing else."""

    def __init__(self) -> None:
        jump_to_next_line = b"\xeb\x3e" + bytes(_LINE - 2)
        self._code = mmap.mmap(-1, _CODE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(jump_to_next_line * (_CODE_BYTES // _LINE - 1) + b"\xc3")
        self._run = ctypes.PYFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(self._code)))
        self._data = (ctypes.c_char * _DATA_BYTES)()

    def __call__(self) -> None:
        ctypes.memset(self._data, 1, _DATA_BYTES)
        self._run()


def costs_us() -> dict[str, float | bool | str]:
    """Medians: before the work is enqueued, at `launched()`, after the results are there; of a `with lock:`; empty elsewhere."""
    if platform.machine() != "x86_64":
        return {}
    sweep, clock = Sweep(), time.perf_counter_ns
    engine = FakeEngine(FakeCuda())
    context, shapes, lock = hot_context(engine), {"ids": (1, 128), "mask": (1, 128)}, threading.RLock()

    def nothing() -> tuple[int, ...]:
        t0 = clock()
        t1 = clock()
        sweep()
        t2 = clock()
        t3 = clock()
        sweep()
        t4 = clock()
        t5 = clock()
        return t1 - t0, t3 - t2, t5 - t4

    def watched(probe: Probe) -> tuple[int, ...]:
        t0 = clock()
        with probe.execution(context, 0, shapes) as run:
            t1 = clock()
            sweep()
            t2 = clock()
            run.launched()
            t3 = clock()
            sweep()
            t4 = clock()
        t5 = clock()
        return t1 - t0, t3 - t2, t5 - t4

    def locked() -> tuple[int, ...]:
        t0 = clock()
        with lock:
            t1 = clock()
            sweep()
            sweep()
            t4 = clock()
        t5 = clock()
        return t1 - t0, 0, t5 - t4

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        probe = Probe(engine, service="bench", folder=folder, rate=0.0, trt=trt, cuda=engine.cuda)
        found: dict[str, list[tuple[int, ...]]] = {"nothing": [], "watched": [], "locked": []}
        ways: dict[str, Callable[[], tuple[int, ...]]] = {
            "nothing": nothing,
            "watched": lambda: watched(probe),
            "locked": locked,
        }
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                found[name].append(way())
        assert probe.counters()["executions"] == _ROUNDS
        probe.close()

    def median_us(name: str, part: int) -> float:
        return statistics.median(taken[part] for taken in found[name]) / 1e3

    def more_us(name: str, part: int) -> float:
        return round(median_us(name, part) - median_us("nothing", part), 2)

    return {
        "before_us": more_us("watched", 0),
        "launched_us": more_us("watched", 1),
        "after_us": more_us("watched", 2),
        "with_lock_us": round(more_us("locked", 0) + more_us("locked", 2), 2),
        "compiled": usual.COMPILED,
    }


def main() -> None:
    figures: dict[str, Any] = costs_us()
    print(*(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
