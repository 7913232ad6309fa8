"""What the probe costs on a real engine and GPU: plain against the probe at 0, 1, 10 and 100 %, eager and as CUDA graph.

    PYTHONPATH=schemas:services:tests/gpu python tests/gpu/probe_cost.py --plan bert.plan --shapes 1x32 1x128 8x128 8x512

Blocks of executions are interleaved in a new random order each round, so that drift of clocks and heat meets all alike;
each block of the probe is paired with the plain one of its round. One JSON object a line, then a table. All inputs of the
engine have the same shape. `--hog` runs a busy Python thread beside, and adds an engine profiled the synchronous way.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt as trt
from driver import Driver
from intervals import percentile, relative_interval_pct

from layerwatch.probe import Probe
from layerwatch.schemas import control_page
from layerwatch.schemas.control_page import Sampling

RATES = {"probe 0 %": 0.0, "probe 1 %": 0.01, "probe 10 %": 0.1, "probe 100 %": 1.0}
_WARM_UP = 50
_BUFFER_BYTES = 64 << 20


class Rig:
    """One engine, one context, one stream; pinned buffers and their places on the device."""

    def __init__(self, cuda: Driver, engine: Any) -> None:
        self.cuda, self.engine = cuda, engine
        self.stream = cuda.stream()
        self.context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = [n for n in names if n not in self.inputs]
        self.device = {n: cuda.allocate(_BUFFER_BYTES) for n in names}
        self.host = {n: cuda.allocate_host(_BUFFER_BYTES) for n in names}
        self.size: dict[str, int] = {}
        self.graph = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, address in self.device.items():
            self.context.set_tensor_address(name, address)

    def set_shape(self, shape: tuple[int, ...]) -> None:
        """Set it, fill the inputs with small numbers, and capture the graph."""
        self.shapes = dict.fromkeys(self.inputs, shape)
        for name in self.inputs:
            self.context.set_input_shape(name, shape)
        for name in (*self.inputs, *self.outputs):
            dims = self.context.get_tensor_shape(name)
            self.size[name] = self.engine.get_tensor_dtype(name).itemsize * trt.volume(dims)
        random_bytes = random.Random(1)
        for name in self.inputs:
            data = bytes(random_bytes.choices(b"\0\1\2\3", k=self.size[name] // 4))
            ids = b"".join(bytes((value, 0, 0, 0)) for value in data)
            ctypes.memmove(self.host[name], ids, len(ids))
        for _ in range(_WARM_UP):
            self.copy_in()
            self.context.execute_async_v3(self.stream)
            self.copy_out()
        self.graph = self.cuda.capture(self.stream, lambda: self.context.execute_async_v3(self.stream))

    def copy_in(self) -> None:
        for name in self.inputs:
            self.cuda.to_device(self.device[name], self.host[name], self.size[name], self.stream)

    def copy_out(self) -> None:
        for name in self.outputs:
            self.cuda.to_host(self.host[name], self.device[name], self.size[name], self.stream)
        self.cuda.synchronize(self.stream)

    def plain(self, *, graph: bool) -> None:
        self.copy_in()
        if graph:
            self.cuda.launch(self.graph, self.stream)
        else:
            self.context.execute_async_v3(self.stream)
        self.copy_out()

    def probed(self, probe: Probe, *, graph: bool) -> None:
        with probe.execution(self.context, self.stream, self.shapes, graph=graph) as run:
            self.copy_in()
            if graph and not run.sampled:
                self.cuda.launch(self.graph, self.stream)
            else:
                run.context.execute_async_v3(self.stream)
            self.copy_out()

    def spoil(self) -> None:
        """Overwrite the results, so that only a new execution can give them again."""
        for name in self.outputs:
            ctypes.memset(self.host[name], 0xA5, self.size[name])
            self.cuda.to_device(self.device[name], self.host[name], self.size[name], self.stream)
        self.cuda.synchronize(self.stream)

    def results(self) -> bytes:
        return b"".join(ctypes.string_at(self.host[name], self.size[name]) for name in self.outputs)


class Orders:
    """Writes the probe's control page, as an agent would."""

    def __init__(self, folder: Path) -> None:
        (page,) = folder.glob("[!.]*/control")
        self._fd = os.open(page, os.O_WRONLY)
        self._generation = 0

    def rate(self, rate: float) -> None:
        self._generation += 1
        order = Sampling("canary", rate, time.time() + 3600)
        os.pwrite(
            self._fd, control_page.encode_sampling(self._generation, order), control_page.SAMPLING_OFFSET
        )


class Hog:
    """A thread that computes in Python while the block runs."""

    def __enter__(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._compute)
        self._thread.start()

    def _compute(self) -> None:
        while not self._stopping:
            sum(range(1000))

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()


def synchronous(engine: Any, rig: Rig) -> Callable[[], None]:
    """The naive way: a context whose profiler is called from within enqueue."""

    class Names(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: list[float] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.append(ms)

    context, profiler = engine.create_execution_context(), Names()
    context.profiler = profiler
    for name, address in rig.device.items():
        context.set_tensor_address(name, address)
    for name in rig.inputs:
        context.set_input_shape(name, rig.shapes[name])

    def run() -> None:
        rig.copy_in()
        context.execute_async_v3(rig.stream)
        rig.copy_out()
        profiler.times_ms.clear()

    return run


def measure(
    ways: dict[str, Callable[[], None]], executions: int, seconds: float, prepare: Callable[[str], None]
) -> dict[str, list[list[float]]]:
    """Latencies in ms of each way by round, in a new order each round, until the time is over."""
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    order, rng = list(ways), random.Random(7)
    for name, run in ways.items():  # twins are made, kernels are loaded
        prepare(name)
        for _ in range(executions):
            run()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s or len(found[order[0]]) < 3:
        rng.shuffle(order)
        for name in order:
            prepare(name)
            run, block = ways[name], []
            for _ in range(executions):
                began_ns = time.perf_counter_ns()
                run()
                block.append((time.perf_counter_ns() - began_ns) / 1e6)
            found[name].append(block)
    return found


def figures(name: str, found: dict[str, list[list[float]]]) -> dict[str, Any]:
    means = {way: [statistics.fmean(block) for block in blocks] for way, blocks in found.items()}
    every = [ms for block in found[name] for ms in block]
    told: dict[str, Any] = {
        "way": name,
        "blocks": len(found[name]),
        "mean_ms": round(statistics.fmean(every), 4),
        "p50_ms": round(percentile(every, 0.5), 4),
        "p99_ms": round(percentile(every, 0.99), 4),
        "p999_ms": round(percentile(every, 0.999), 4),
    }
    if name != "plain":
        low, middle, high = relative_interval_pct(means["plain"], means[name])
        told |= {"more_pct": round(middle, 3), "low_pct": round(low, 3), "high_pct": round(high, 3)}
    return told


def same_results(rig: Rig, probe: Probe, orders: Orders) -> dict[str, Any]:
    """Whether two plain runs give the same bytes, and the twin gives them too."""
    rig.spoil()
    rig.plain(graph=False)
    first = rig.results()
    rig.spoil()
    rig.plain(graph=False)
    repeatable = rig.results() == first
    orders.rate(1.0)
    rig.probed(probe, graph=False)  # the first one of a twin is no sample
    before = probe.counters()["sampled"]
    rig.spoil()
    rig.probed(probe, graph=False)
    return {
        "repeatable": repeatable,
        "twin_equal": rig.results() == first,
        "sampled": probe.counters()["sampled"] - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True)
    parser.add_argument("--shapes", nargs="+", default=["1x32", "1x128", "8x128", "8x512"])
    parser.add_argument("--executions", type=int, default=50, help="of a block")
    parser.add_argument("--seconds", type=float, default=50.0, help="for each shape and kind of hot path")
    parser.add_argument("--paths", nargs="+", choices=["eager", "graph"], default=["eager", "graph"])
    parser.add_argument("--hog", action="store_true")
    given = parser.parse_args()
    cuda = Driver()
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(Path(given.plan).read_bytes())
    rig = Rig(cuda, engine)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        drain = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("drain.py")), name], stdout=subprocess.PIPE
        )
        assert drain.stdout is not None
        drain.stdout.readline()
        try:
            rows = compare(rig, engine, folder, given)
        finally:
            drain.kill()
            drain.wait()
    table(rows)


def compare(rig: Rig, engine: Any, folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    probe = Probe(engine, service="cost", plan=given.plan, folder=str(folder), rate=0.0)
    if probe.problem:
        sys.exit(probe.problem)
    orders, rows = Orders(folder), []
    used = rig.cuda.used_bytes()
    for text in given.shapes:
        rig.set_shape(tuple(int(d) for d in text.split("x")))
        tell({"measure": "results", "shape": text, **same_results(rig, probe, orders)})
        for path in given.paths:
            ways = _ways(rig, probe, path == "graph")
            if given.hog:
                ways["synchronous"] = synchronous(engine, rig)
                with Hog():
                    found = measure(
                        ways, given.executions, given.seconds, lambda n: orders.rate(RATES.get(n, 0.0))
                    )
            else:
                found = measure(
                    ways, given.executions, given.seconds, lambda n: orders.rate(RATES.get(n, 0.0))
                )
            for name in ways:
                rows.append(
                    {
                        "measure": "probe_cost",
                        "shape": text,
                        "path": path,
                        "hog": given.hog,
                        **figures(name, found),
                    }
                )
                tell(rows[-1])
    tell(
        {
            "measure": "probe",
            "tensorrt": trt.__version__,
            "layers": engine.num_layers,
            "twin_stated_mib": probe.twin_bytes() >> 20,
            "taken_mib": (rig.cuda.used_bytes() - used) >> 20,
            "refusals": probe.refusals,
            **probe.counters(),
        }
    )
    probe.close()
    return rows


def _ways(rig: Rig, probe: Probe, graph: bool) -> dict[str, Callable[[], None]]:
    ways: dict[str, Callable[[], None]] = {"plain": lambda: rig.plain(graph=graph)}
    return ways | dict.fromkeys(RATES, lambda: rig.probed(probe, graph=graph))


def tell(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def table(rows: list[dict[str, Any]]) -> None:
    print("| shape | hot path | way | mean ms | more than plain, 95 % | p99 ms | p99.9 ms | blocks |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        more = (
            f"{row['more_pct']:+.2f} % ({row['low_pct']:+.2f} .. {row['high_pct']:+.2f})"
            if "more_pct" in row
            else ""
        )
        print(
            f"| {row['shape']} | {row['path']} | {row['way']} | {row['mean_ms']:.3f} | {more} | {row['p99_ms']:.3f} "
            f"| {row['p999_ms']:.3f} | {row['blocks']} |"
        )


if __name__ == "__main__":
    main()
