"""What the probe costs a serving thread, and the agent its host. No GPU: TensorRT's own part is measured in tests/gpu."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import out_of_cache
import ring_load
from bed import Bed, bed
from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt

from layerwatch.probe import Probe

_EXECUTIONS, _REPEATS = 20_000, 21
_PER_S, _SECONDS = 50_000, 30.0


def main() -> None:
    probe()
    with tempfile.TemporaryDirectory() as folder, bed(Path(folder)) as machine:
        agent(machine)


def tell(measure: str, **figures: Any) -> None:
    print(json.dumps({"measure": measure, **figures, "cpus": os.cpu_count()}), flush=True)


def probe() -> None:
    """CPU of this thread for an execution that is not sampled, less that of an empty `with` block."""
    engine = FakeEngine(FakeCuda())
    context, shapes = hot_context(engine), {"ids": (1, 128), "mask": (1, 128)}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = Probe(engine, service="bench", folder=folder, rate=0.0, trt=trt, cuda=engine.cuda)

        def watched() -> None:
            for _ in range(_EXECUTIONS):
                with made.execution(context, 0, shapes) as run:
                    run.context  # noqa: B018

        empty_block = _Empty()

        def empty() -> None:
            for _ in range(_EXECUTIONS):
                with empty_block as run:
                    run.context  # noqa: B018

        costs_us = [_cpu_us(watched) - _cpu_us(empty) for _ in range(_REPEATS)]
        assert made.counters()["executions"] == _EXECUTIONS * _REPEATS
        made.close()
    tell(
        "probe_unsampled",
        cpu_us_median=round(statistics.median(costs_us), 2),
        cpu_us_least=round(min(costs_us), 2),
        cpu_us_most=round(max(costs_us), 2),
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        input=f"{_REPEATS} times {_EXECUTIONS} executions, shapes given, page and ring in /dev/shm",
    )
    tell("probe_out_of_cache", **out_of_cache.costs_us(), input="the same, after a sweep of the CPU's caches")


class _Empty:
    context = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def _cpu_us(work: Callable[[], None]) -> float:
    began_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began_ns) / _EXECUTIONS / 1e3


def agent(machine: Bed) -> None:
    """One agent, several runtimes at a high pace."""
    folder = machine.settings.agent.folder
    with machine.service("agent"):
        cpu_s, began_s = machine.metric("agent", "process_cpu_seconds_total"), time.monotonic()
        argv = [sys.executable, ring_load.__file__, str(folder), str(_PER_S), str(_SECONDS)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        written, per_s, unsent = map(int, done.stdout.split())
        while machine.metric("agent", "layerwatch_agent_runtimes"):
            time.sleep(0.1)
        took_s = time.monotonic() - began_s
        cpu_s = machine.metric("agent", "process_cpu_seconds_total") - cpu_s
        tell(
            "agent",
            executions_per_s=per_s,
            cpu_share=round(cpu_s / took_s, 3),
            resident_mib=round(machine.metric("agent", "process_resident_memory_bytes") / 2**20),
            executions_not_told=written - int(machine.metric("agent", "layerwatch_agent_executions_total")),
            executions_counted_lost=int(machine.metric("agent", "layerwatch_agent_lost_executions_total")),
            samples=int(machine.metric("agent", "layerwatch_agent_samples_total")),
            samples_lost=unsent,
            input=f"{_SECONDS:.0f} s, {ring_load.RUNTIMES} runtimes of {ring_load.THREADS} threads, "
            f"1 % sampled, {ring_load.LAYERS} layers, to Kafka",
        )


if __name__ == "__main__":
    main()
