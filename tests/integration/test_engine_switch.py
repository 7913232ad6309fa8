"""A decision on real Kafka moves a serving loop to its standby; it comes back when the lease ends, with the agent dead."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
from stack import Service, patient_settings, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.probe import EngineSwitch, Probe
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision, Target
from layerwatch.schemas.times import rfc3339
from layerwatch.schemas.topics import DECISIONS_CURRENT

pytestmark = pytest.mark.kafka

STREAM = 7


class Loop:
    """Serves on two engines, each with its probe, in one thread until it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.engines = {"primary": FakeEngine(FakeCuda()), "fp16": FakeEngine(FakeCuda())}
        self.probes = {
            name: Probe(
                engine, service="bert-qa", instance=name, folder=str(folder), trt=trt, cuda=engine.cuda
            )
            for name, engine in self.engines.items()
        }
        self.switch = EngineSwitch(self.probes["primary"], "primary", {"fp16": "fp16"})
        self.asked = 0
        self.failed: list[BaseException] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        contexts = {name: hot_context(engine) for name, engine in self.engines.items()}
        try:
            while not self._stopping.wait(0.002):
                with (
                    self.switch.pick() as name,
                    self.probes[name].execution(contexts[name], STREAM, {"ids": (1, 32)}) as run,
                ):
                    run.context.execute_async_v3(STREAM)
                    self.engines[name].cuda.finish(STREAM)
                self.asked += 1
        except BaseException as error:  # noqa: BLE001 - of a thread: told at the end
            self.failed.append(error)

    def is_on(self, name: str) -> bool:
        """Whether the next executions go there, and nowhere else."""
        before = {one: engine.executions for one, engine in self.engines.items()}
        time.sleep(0.1)
        return [one for one, engine in self.engines.items() if engine.executions > before[one]] == [name]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        for probe in self.probes.values():
            probe.close()


def decide(settings: Settings, for_s: float, **changes: Any) -> None:
    now_s = time.time()
    fields: dict[str, Any] = {
        "id": "d1",
        "epoch": 1,
        "revision": 1,
        "status": "active",
        "target": Target("bert-qa", "primary", "routing"),
        "action": "fallback_precision",
        "mode": "enforce",
        "parameters": {"engine": "fp16"},
        "reason": "tensors leave their calibrated range",
        "alerts": [],
        "confidence": 0.9,
        "expected": "outputs as the reference has them",
        "policy": "default@1",
        "issued_at": rfc3339(now_s),
        "expires_at": rfc3339(now_s + for_s),
    }
    decision = Decision(**{**fields, **changes})
    producer = kafka.producer(settings)
    producer.send(DECISIONS_CURRENT, key=decision.target.key.encode(), value=encode_json(decision)).get(30)
    kafka.abandon(producer)


def test_a_runtime_obeys_decisions_and_goes_back_when_their_lease_ends(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    settings = patient_settings(fresh_kafka, tmp_path / "home", agent={"folder": shared})
    agent = Service("agent", settings)
    loop = Loop(shared)
    try:
        with running(agent):
            agent.wait_ready()
            wait_until(lambda: loop.asked > 100, "it serves")
            decide(settings, 600.0, mode="shadow")
            decide(settings, 600.0, target=Target("bert-qa", "*", "routing"))
            wait_until(lambda: loop.is_on("fp16"), "the service's decision is obeyed", 60)
            decide(settings, 600.0, action="restore", parameters={})
            wait_until(lambda: loop.is_on("primary"), "the instance's own decision wins", 60)
            decide(settings, 600.0, status="withdrawn")
            wait_until(lambda: loop.is_on("fp16"), "the service's decision holds again", 60)
            assert agent.metric("layerwatch_agent_routed_runtimes") == 2
            decide(settings, 600.0, target=Target("bert-qa", "*", "routing"), status="withdrawn")
            wait_until(lambda: loop.is_on("primary"), "nothing is decided", 60)
            decide(settings, 8.0, id="d2")
            wait_until(lambda: loop.is_on("fp16"), "the second decision is obeyed", 60)
            agent.kill()
            wait_until(lambda: loop.is_on("primary"), "the lease has ended, with the agent dead", 60)
    finally:
        loop.stop()
    assert loop.failed == []
    assert loop.asked == sum(engine.executions for engine in loop.engines.values())
    assert [probe.counters()["errors"] for probe in loop.probes.values()] == [0, 0]
    assert loop.switch.running() == loop.switch.running("fp16") == 0
