"""Runtimes with real probes (over a fake TensorRT) beside the real agent: what is executed is told, once and whole."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import LAYERS, FakeCuda, FakeEngine, hot_context, trt

from layerwatch.agent.agent import Agent
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.window import MAX_EXECUTIONS
from layerwatch.detectors.batch import executions_of
from layerwatch.probe import Probe
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.control import Control
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import CHANGED_SHAPE, COUNTER_COLUMNS, ON_TWIN, ProfileBatch
from layerwatch.schemas.topics import ENGINES, PROFILES

TESTS = Path(__file__).resolve().parents[2]
STREAM = 7
_MANIFESTS, _BATCHES = Reader(Manifest), Reader(ProfileBatch)


class Sink:
    """Keeps what is offered, decoded."""

    def __init__(self) -> None:
        self.offered = self.acked = self.failed = self.dropped = 0
        self.manifests: list[Manifest] = []
        self.batches: list[ProfileBatch] = []

    def offer(self, topic: str, key: bytes, value: bytes) -> None:
        self.offered += 1
        if topic == ENGINES:
            self.manifests.append(_MANIFESTS.decode(value))
        elif topic == PROFILES:
            self.batches.append(_BATCHES.decode(value))

    def close(self, timeout_s: float = 2.0) -> None: ...

    @property
    def executions(self) -> int:
        return sum(len(batch.end_to_end_ms) // 4 for batch in self.batches)

    def check(self) -> None:
        """Everything is what the processor takes, in order, and without a gap in time."""
        manifests = {manifest.engine: manifest for manifest in self.manifests}
        by_instance: dict[tuple[str, int], list[ProfileBatch]] = {}
        for batch in self.batches:
            executions_of(batch, manifests[batch.engine])
            by_instance.setdefault((batch.instance, batch.boot_ms), []).append(batch)
        for batches in by_instance.values():
            assert [b.sequence for b in batches] == sorted({b.sequence for b in batches})
            for one, next_one in pairwise(batches):
                assert one.window_end_s == next_one.window_start_s
            times = np.concatenate([np.frombuffer(b.times_s, "<f8") for b in batches])
            assert (np.diff(times) >= 0).all()


class Host:
    """An agent over a folder, with a clock that is moved by hand."""

    def __init__(self, folder: Path, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.now_s = time.time()
        self.sink = Sink()
        self.controls: dict[str, Control] = {}
        self.options = options
        self.agent = self._agent()

    def _agent(self) -> Agent:
        return Agent(
            self.folder,
            self.sink,
            Inbox(self.folder),
            clock=lambda: self.now_s,
            controls=self.controls,
            **self.options,
        )

    def pass_time(self, seconds: float = 1.1) -> None:
        """Let the agent work until so much later."""
        self.now_s = max(self.now_s + seconds, time.time() + 0.1)
        self.agent.step()

    def restart(self, *, killed: bool) -> None:
        if not killed:
            self.agent.close()
        else:
            self.agent.inbox._socket.close()
        self.agent = self._agent()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "shared")
    yield made
    made.agent.close()


class Runtime:
    """A probe over a fake engine."""

    def __init__(self, folder: Path, service: str = "bert-qa", **options: Any) -> None:
        self.engine = FakeEngine(FakeCuda(), **options)
        self.probe = Probe(
            self.engine, service=service, folder=str(folder), trt=trt, cuda=self.engine.cuda, rate=0.0
        )
        self.hot = hot_context(self.engine)
        (about,) = [path for path in folder.glob("[!.]*/runtime.json") if service in path.read_text()]
        self.folder = about.parent

    @property
    def instance(self) -> str:
        from layerwatch.schemas.runtimes import RUNTIME_READER

        return RUNTIME_READER.decode((self.folder / "runtime.json").read_bytes()).instance

    def execute(self, times: int = 1, shape: tuple[int, int] = (1, 32)) -> None:
        for _ in range(times):
            self.hot.set_input_shape("ids", shape)
            with self.probe.execution(self.hot, STREAM, {"ids": shape}) as run:
                run.context.execute_async_v3(STREAM)
                self.engine.cuda.finish(STREAM)


def canary(runtime: Runtime, **options: Any) -> Control:
    now_s = time.time()
    given = {"ceiling_pct": 1e6, "expires_s": now_s + 3600} | options
    return Control(
        service="bert-qa", instance=runtime.instance, tier="canary", issued_s=now_s, reason="test", **given
    )


def test_what_is_executed_is_told_with_its_shapes_and_layers(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.controls[runtime.instance] = canary(runtime)
    host.pass_time()
    runtime.execute(5)
    runtime.execute(3, (4, 128))
    host.pass_time()
    host.pass_time()
    host.sink.check()
    told = [b for b in host.sink.batches if b.end_to_end_ms]
    assert host.sink.executions == 8
    (batch,) = told
    assert [batch.shapes[i] for i in array("H", batch.shape_index)] == 5 * [{"ids": [1, 32]}] + 3 * [
        {"ids": [4, 128]}
    ]
    (block,) = batch.layers
    assert (block.profile, block.layers) == (0, LAYERS)
    assert list(array("I", block.rows)) == list(range(1, 8))  # the twin's first one warmed it up
    assert array("f", block.times_ms)[:LAYERS].tolist() == pytest.approx(
        [0.01 + n / 1000 for n in range(LAYERS)]
    )
    assert list(batch.flags) == [
        ON_TWIN | CHANGED_SHAPE,
        *4 * [ON_TWIN],
        ON_TWIN | CHANGED_SHAPE,
        *2 * [ON_TWIN],
    ]
    assert (batch.state, batch.tier, batch.rate, batch.dropped, batch.gpu) == (
        "serving",
        "canary",
        1.0,
        0,
        "GPU-fake",
    )
    assert host.sink.batches[-1].state == "idle"
    assert host.agent.samples == 7
    (manifest,) = host.sink.manifests
    assert len(manifest.profiles[0].layers) == LAYERS


def test_a_heartbeat_comes_each_second_and_each_quarter_while_suspected(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.pass_time()
    before = len(host.sink.batches)
    start_s = host.now_s
    while host.now_s < start_s + 10:
        host.now_s += 0.05
        host.agent.step()
    assert len(host.sink.batches) - before == pytest.approx(10, abs=1)
    host.controls[runtime.instance] = canary(runtime)
    host.pass_time()
    before, start_s = len(host.sink.batches), host.now_s
    while host.now_s < start_s + 10:
        host.now_s += 0.05
        host.agent.step()
    assert len(host.sink.batches) - before == pytest.approx(40, abs=8)


def test_a_goodbye_is_told_and_the_folder_is_removed(host: Host) -> None:
    runtime = Runtime(host.folder)
    runtime.execute(3)
    host.pass_time()
    runtime.execute(2)
    runtime.probe.close()
    host.pass_time()
    assert host.sink.batches[-1].state == "leaving"
    assert host.sink.executions == 5
    assert not runtime.folder.exists()
    assert (host.agent.runtimes, dict(host.agent.ended)) == ({}, {"leaving": 1})
    host.sink.check()


def _child(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    prelude = f"""
        import os, sys
        sys.path.insert(0, {str(TESTS)!r})
        from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
        from layerwatch.probe import Probe
        engine = FakeEngine(FakeCuda())
        probe = Probe(engine, service="child", folder={str(folder)!r}, trt=trt, cuda=engine.cuda)
        hot = hot_context(engine)
        for _ in range(100):
            with probe.execution(hot, 7, {{"ids": (1, 32)}}) as run:
                run.context.execute_async_v3(7)
                engine.cuda.finish(7)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + code], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize(("code", "state"), [("os.kill(os.getpid(), 9)", "crashed"), ("", "leaving")])
def test_a_process_that_ends_is_told_of_to_its_last_execution(host: Host, code: str, state: str) -> None:
    _child(host.folder, code)  # came and went between two looks
    host.pass_time()
    host.pass_time()
    assert (host.sink.executions, host.sink.batches[-1].state) == (100, state)
    assert list(host.folder.glob("*/runtime.json")) == []
    host.sink.check()


def test_runtimes_come_and_go_beside_one_another(host: Host) -> None:
    one = Runtime(host.folder, "one")
    one.execute(3)
    host.pass_time()
    other = Runtime(host.folder, "other", profiles=2)
    other.execute(4)
    host.pass_time()
    one.probe.close()
    other.execute(4)
    host.pass_time()
    host.pass_time()
    told = {
        s: sum(len(b.end_to_end_ms) // 4 for b in host.sink.batches if b.service == s)
        for s in ("one", "other")
    }
    assert told == {"one": 3, "other": 8}
    assert len({m.engine for m in host.sink.manifests}) == 2
    host.sink.check()


@pytest.mark.parametrize("killed", [True, False])
def test_a_restarted_agent_goes_on_without_telling_twice(host: Host, killed: bool) -> None:
    runtime = Runtime(host.folder)
    runtime.execute(10)
    host.pass_time()
    runtime.execute(7)
    host.restart(killed=killed)
    runtime.execute(5)
    host.pass_time()
    host.pass_time()
    assert host.sink.executions == 22
    host.sink.check()


def test_threads_are_told_in_the_order_of_time(host: Host) -> None:
    import threading

    runtime = Runtime(host.folder)

    def serve() -> None:
        hot = hot_context(runtime.engine)
        for _ in range(300):
            with runtime.probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
                run.context.execute_async_v3(STREAM)
                runtime.engine.cuda.finish(STREAM)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        host.pass_time(0.3)
    host.pass_time()
    host.pass_time()
    assert host.sink.executions == 1200
    host.sink.check()


def test_more_executions_or_samples_than_a_message_holds_make_several(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.pass_time()
    runtime.execute(8192)
    runtime.execute(300)
    host.pass_time()
    host.controls[runtime.instance] = canary(runtime)
    host.pass_time()
    host.pass_time()
    for _ in range(201):
        runtime.execute()
        host.agent.inbox.drain()  # the kernel may hold as few as ten datagrams
    host.pass_time()
    host.pass_time()
    lost = 300  # the ring holds 8192
    assert host.sink.executions == 8192 + 300 + 201 - lost
    assert host.sink.batches[-1].dropped == lost
    assert max(len(b.end_to_end_ms) // 4 for b in host.sink.batches) <= MAX_EXECUTIONS
    canaries = [b for b in host.sink.batches if b.tier == "canary" and b.layers]
    sampled = [sum(len(block.rows) // 4 for block in b.layers) for b in canaries]
    assert max(sampled) <= 64
    assert sum(sampled) == 201
    host.sink.check()


def test_a_baseline_order_is_a_lease_and_keeps_the_ceiling(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.pass_time()
    order = next(iter(host.agent.runtimes.values())).order
    assert order is not None
    assert order.tier == "baseline"
    assert order.rate == pytest.approx(0.005)  # 0.5 % while the cost is not known
    assert 0 < order.expires_s - host.now_s <= 10
    runtime.execute(1)
    assert runtime.probe._watch is not None
    assert runtime.probe._watch._page.tier == "baseline"


def test_a_new_order_is_obeyed_at_once_and_the_twins_memory_is_told(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.pass_time()
    host.controls[runtime.instance] = canary(runtime)
    host.now_s += 0.01
    host.agent.step()
    runtime.execute(2)
    assert runtime.probe.counters()["sampled"] == 1
    (watched,) = host.agent.runtimes.values()
    assert watched.device_bytes() == 64 << 20


def test_an_expired_order_ends_in_baseline_and_one_for_another_service_is_none(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.controls[runtime.instance] = canary(runtime, expires_s=time.time() + 60)
    host.pass_time()
    (watched,) = host.agent.runtimes.values()
    assert watched.order is not None
    assert watched.order.tier == "canary"
    host.now_s += 120
    host.agent.step()
    assert watched.order.tier == "baseline"
    stranger = Control(service="other", instance=runtime.instance, tier="off", issued_s=0, expires_s=1e12)
    host.controls[runtime.instance] = stranger
    host.pass_time()
    assert watched.order.tier == "baseline"


def test_layers_that_cannot_be_are_left_out_and_the_execution_is_told(host: Host) -> None:
    runtime = Runtime(host.folder)
    host.controls[runtime.instance] = canary(runtime)
    host.pass_time()
    runtime.execute(2)
    report = runtime.engine.contexts[1].profiler.report_layer_time
    runtime.engine.contexts[1].profiler.report_layer_time = lambda name, ms: report(name, math.nan)
    runtime.execute(2)
    host.pass_time()
    host.pass_time()
    host.sink.check()
    assert host.sink.executions == 4
    assert sum(len(block.rows) // 4 for b in host.sink.batches for block in b.layers) == 1
    (watched,) = host.agent.runtimes.values()
    assert watched.lost()["layers"] == 2


def test_a_folder_that_is_no_runtime_is_refused_and_costs_the_others_nothing(host: Host) -> None:
    for name, text in {"aa": "{}", "bb": "nonsense", "cc": '{"schema": "layerwatch.runtime/2"}'}.items():
        (host.folder / name).mkdir()
        (host.folder / name / "runtime.json").write_text(text)
    runtime = Runtime(host.folder)
    runtime.execute(3)
    host.pass_time()
    host.pass_time()
    assert set(host.agent.refused) == {"aa", "bb", "cc"}
    assert host.sink.executions == 3
    os.truncate(runtime.folder / "ring-000", 64)
    host.pass_time()
    assert runtime.folder.name in host.agent.refused


def test_arbitrary_datagrams_are_counted_and_the_waiting_is_bounded(host: Host) -> None:
    import socket

    from layerwatch.schemas.runtimes import SOCKET_NAME
    from layerwatch.schemas.samples import LayerSample, encode_sample

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(host.folder / SOCKET_NAME))
        for data in (b"", b"x" * 100, b"LWLAYERS" + bytes(100)):
            sender.send(data)
        host.pass_time()
        assert host.agent.inbox.refused == 3
        for position in range(1200):
            sender.send(encode_sample(LayerSample(bytes(16), 0, position, 0, bytes(40_000))))
            host.agent.inbox.drain()
    assert host.agent.inbox.dropped == 1200 - (32 << 20) // 40_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that it can keep from itself")
def test_an_agent_that_may_only_read_tells_all_and_orders_nothing() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        runtime = Runtime(folder)
        runtime.execute(1)
        os.seteuid(65534)
        try:
            host = Host(folder)
            runtime.execute(3)
            host.pass_time()
            (watched,) = host.agent.runtimes.values()
            assert not watched.may_order
            runtime.execute(4)
            host.restart(killed=False)
            host.pass_time()
            runtime.probe.close()
            host.pass_time()
            # what it may not note, it tells again after a restart, in messages that come after the former ones
            assert host.sink.executions == 8 + 8
            assert [b.sequence for b in host.sink.batches] == sorted({b.sequence for b in host.sink.batches})
            assert host.agent.refused[runtime.folder.name].endswith("cannot be removed")
            host.agent.close()
        finally:
            os.seteuid(0)


class _Gpu:
    def between(self, gpu: str, start_s: float, end_s: float) -> bytes:
        return array("d", [end_s] + [1.0] * (len(COUNTER_COLUMNS) - 1)).tobytes()


def test_counters_of_the_gpu_travel_with_the_window(tmp_path: Path) -> None:
    host = Host(tmp_path / "shared", gpu=_Gpu())
    runtime = Runtime(host.folder)
    runtime.execute(3)
    host.pass_time()
    host.pass_time()
    host.sink.check()
    assert all(len(batch.counters) == 8 * len(COUNTER_COLUMNS) for batch in host.sink.batches)
    host.agent.close()


def test_an_engine_without_names_is_described_before_its_layers_are_told(host: Host) -> None:
    runtime = Runtime(host.folder, names=False)
    host.controls[runtime.instance] = canary(runtime)
    host.pass_time()
    runtime.execute(4)
    host.pass_time()
    host.pass_time()
    host.sink.check()
    assert [len(m.profiles) for m in host.sink.manifests] == [0, 1]
    assert host.agent.samples == 3
