"""What an agent shows on /metrics adds up over runtimes, those that have ended among them."""

from __future__ import annotations

import time
from pathlib import Path

from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
from prometheus_client import CollectorRegistry

from layerwatch.agent.agent import Agent
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.metrics import AgentMetrics
from layerwatch.agent.sinks import FileSink
from layerwatch.probe import Probe


def test_everything_seen_sent_and_dropped_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    sink = FileSink(tmp_path / "a.lwlog")
    now_s = [time.time()]
    agent = Agent(folder, sink, Inbox(folder), clock=lambda: now_s[0])
    registry = CollectorRegistry()
    registry.register(AgentMetrics(agent, sink, None))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"layerwatch_agent_{name}", labels)

    assert value("executions_total") == 0
    for service in ("a", "b"):
        engine = FakeEngine(FakeCuda())
        probe = Probe(engine, service=service, folder=str(folder), trt=trt, cuda=engine.cuda, rate=1.0)
        hot = hot_context(engine)
        for _ in range(4):
            with probe.execution(hot, 7, {"ids": (1, 32)}) as run:
                run.context.execute_async_v3(7)
                engine.cuda.finish(7)
        agent.step()
        if service == "a":
            probe.close()
    for _ in range(2):
        now_s[0] += 1.5
        agent.step()
    assert value("runtimes") == 1
    assert value("ended_runtimes_total", state="leaving") == 1
    assert value("executions_total") == 8
    assert value("probe_total", reason="sampled") == value("datagrams_total") == value("samples_total")
    assert value("probe_total", reason="warm_up") == 2
    assert (value("probe_overhead_seconds_total") or 0) > 0
    assert value("twin_bytes") == 64 << 20
    assert value("records_total", fate="acked") == sink.acked > 0
    assert value("lost_executions_total", reason="overwritten") == 0
    agent.close()
    sink.close()
