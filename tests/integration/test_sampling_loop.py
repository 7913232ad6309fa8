"""The closed loop through real Kafka: the processor raises sampling, probe and replay obey, and it falls back by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_runtime import serving
from stack import DATA, Service, patient_settings, read, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting.environment import environment
from layerwatch.probe import Probe
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.control import CONTROL_READER
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import CONTROL, DEADLETTER, PROFILES

pytestmark = pytest.mark.kafka


def share(probe: Probe) -> float:
    """Of the executions of the next half second, those that were sampled."""
    before = probe.counters()
    time.sleep(0.5)
    after = probe.counters()
    return (after["sampled"] - before["sampled"]) / max(after["executions"] - before["executions"], 1)


def test_a_new_build_is_a_canary_without_being_asked_and_falls_back_when_the_processor_is_dead(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    agent_settings = {"folder": shared, "raised_ceiling_pct": 1e6}
    settings = patient_settings(fresh_kafka, tmp_path / "home", agent=agent_settings)
    agent, processor = Service("agent", settings), Service("processor", settings)
    with running(agent, processor):
        agent.wait_ready()
        processor.wait_ready()
        with serving(shared, "loop-0") as probe:
            wait_until(lambda: share(probe) > 0.9, "the new build is a canary", 60)
            processor.kill()
            wait_until(lambda: share(probe) < 0.2, "the order has expired", 60)
            total = probe.counters()["executions"]
            wait_until(lambda: probe.counters()["executions"] > total, "it goes on serving")
    orders = [CONTROL_READER.decode(record.value or b"") for record in read(settings, CONTROL)]
    told = [order for order in orders if order.instance == "loop-0"]
    assert told[0].tier == "canary"
    assert told[0].reason == "a new build, until its baselines stand"
    batches = [Reader(ProfileBatch).decode(record.value or b"") for record in read(settings, PROFILES)]
    assert {"baseline", "canary"} <= {batch.tier for batch in batches if batch.instance == "loop-0"}
    assert read(settings, DEADLETTER) == []


def test_a_replay_obeys_the_processor(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    settings = patient_settings(fresh_kafka, tmp_path / "home")
    processor = Service("processor", settings)
    arguments = [DATA / "resnet50-h200.npz", "--sample", "0.01", "--obey-control", "--speed", "5", "--json"]
    arguments += ["--service", "replayed", "--instance", "replayed-0"]
    with running(processor):
        processor.wait_ready()
        replay = subprocess.run(
            [sys.executable, "-m", "layerwatch.cli.main", "replay", *map(str, arguments)],
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
    summary = json.loads(replay.stdout)
    assert summary["sampled"] > 3 * 0.01 * summary["executions"]
    orders = [CONTROL_READER.decode(record.value or b"") for record in read(settings, CONTROL)]
    tiers = [order.tier for order in orders if order.instance == "replayed-0"]
    assert tiers[0] == "canary"
    assert "evidence" in tiers
    batches = [Reader(ProfileBatch).decode(record.value or b"") for record in read(settings, PROFILES)]
    sent = [batch for batch in batches if batch.instance == "replayed-0"]
    assert {"baseline", "canary", "evidence"} <= {batch.tier for batch in sent}
    assert sum(len(block.rows) // 4 for batch in sent for block in batch.layers) == summary["sampled"]
