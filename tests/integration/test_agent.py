"""A fake runtime with a real probe, the agent as a process, real Kafka, and the processor that takes what it sends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runtime import serving
from stack import Service, patient_settings, read, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.recording.open import open_recording
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.control import Control
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import CONTROL, DEADLETTER, PROFILES

_BATCHES = Reader(ProfileBatch)


def order(settings: Settings, instance: str, tier: Any, for_s: float) -> None:
    now_s = time.time()
    control = Control(
        service="bert-qa",
        instance=instance,
        tier=tier,
        issued_s=now_s,
        expires_s=now_s + for_s,
        ceiling_pct=1e6,
    )
    producer = kafka.producer(settings)
    producer.send(CONTROL, key=instance.encode(), value=encode(control)).get(30)
    kafka.abandon(producer)


@pytest.mark.kafka
def test_executions_reach_the_processor_and_orders_reach_the_probe_until_they_expire(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    settings = patient_settings(
        fresh_kafka,
        tmp_path / "home",
        agent={"folder": shared},
        processor={"silence_s": 3600, "checkpoint_s": 0.5, "sampling": "baseline"},
    )
    agent, processor = Service("agent", settings), Service("processor", settings)
    with running(agent, processor):
        agent.wait_ready()
        processor.wait_ready()
        with serving(shared, "bert-qa-0") as probe:
            wait_until(lambda: probe.counters()["executions"] > 200, "something was executed")
            order(settings, "bert-qa-0", "canary", 4.0)
            wait_until(lambda: probe.counters()["sampled"] > 20, "the order has reached the probe")

            def share() -> float:
                before = probe.counters()
                time.sleep(0.5)
                after = probe.counters()
                return (after["sampled"] - before["sampled"]) / (after["executions"] - before["executions"])

            wait_until(lambda: share() < 0.2, "the order has expired")
        total = probe.counters()["executions"]
        wait_until(
            lambda: processor.metric("layerwatch_executions_total") == total, "all executions are scored", 60
        )
        left = 'layerwatch_agent_ended_runtimes_total{state="leaving"}'
        wait_until(lambda: agent.metric(left) == 1, "the goodbye was heard")
        assert agent.metric("layerwatch_agent_executions_total") == total
        assert agent.metric('layerwatch_agent_lost_executions_total{reason="overwritten"}') == 0
        assert agent.stop() == 0
    batches = [_BATCHES.decode(r.value or b"") for r in read(settings, PROFILES)]
    assert sum(len(b.end_to_end_ms) // 4 for b in batches) == total
    assert batches[-1].state == "leaving"
    assert sum(len(block.rows) // 4 for b in batches for block in b.layers) > 20
    assert {b.tier for b in batches if b.layers} >= {"canary"}
    assert read(settings, DEADLETTER) == []


def _agent(folder: Path, out: Path, home: Path) -> subprocess.Popen[str]:
    settings = Settings.model_validate({"state_dir": home, "agent": {"folder": folder, "http_port": 0}})
    return subprocess.Popen(
        [sys.executable, "-m", "layerwatch.cli.main", "agent", "--to", str(out)],
        env=environment(settings),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_kafka_it_records_and_a_second_agent_on_the_host_gives_way(tmp_path: Path) -> None:
    shared, out = tmp_path / "shared", tmp_path / "run.lwlog"
    first = _agent(shared, out, tmp_path)
    try:
        wait_until(lambda: (shared / "agent.sock").exists(), "the agent listens")
        second = _agent(shared, tmp_path / "second.lwlog", tmp_path)
        _, said = second.communicate(timeout=30)
        assert second.returncode == 1
        assert "another agent serves" in said
        with serving(shared, "bert-qa-0") as probe:
            wait_until(lambda: probe.counters()["executions"] > 100, "something was executed")
        total = probe.counters()["executions"]
        wait_until(lambda: not list(shared.glob("*/runtime.json")), "the goodbye was heard")
    finally:
        first.terminate()
        first.communicate(timeout=30)
    assert first.returncode == 0
    recording = open_recording(out)
    assert recording.executions == total
    assert recording.batches[-1].state == "leaving"
    assert not (shared / "agent.sock").exists()
