"""The scaler against a real Kafka, asked by a real gRPC client that was generated from the .proto file, and killed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port, make_settings
from keda import Keda, keda
from scaler_records import decision, load, publish
from stack import RECOVERY_S, SHAPE_JUMP, Service, patient_settings, running, send_slowly
from stack import load as load_recording
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.detectors.load.block import BLOCK_S
from layerwatch.hosting import topics
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.settings import Settings
from layerwatch.scaler.proto.__main__ import write

pytestmark = pytest.mark.kafka

OURS = {"service": "s"}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings(fresh_kafka: LocalBroker, tmp_path: Path, port: int) -> Settings:
    return make_settings(
        fresh_kafka,
        tmp_path,
        scaler={"grpc_port": port},
        decision={"mode": "enforce"},
    )


@pytest.fixture
def scaler(settings: Settings) -> Iterator[Service]:
    service = Service("scaler", settings)
    with running(service):
        service.wait_ready()
        yield service


def _replicas(scaler: Service, service: str) -> float:
    return scaler.metric(f'layerwatch_recommended_replicas{{service="{service}"}}')


def test_keda_asks_is_pushed_and_hears_unavailable_when_all_is_stale(
    settings: Settings, scaler: Service, port: int
) -> None:
    with keda(port) as client, keda(port) as stream:
        assert client.ask("GetMetricSpec", OURS)["name"] == "layerwatch_recommended_replicas"
        assert client.ask("Health")["status"] == "SERVING"
        unheard = client.ask("GetMetrics", {"service": "unheard"})
        assert unheard["code"] == "UNAVAILABLE"
        assert client.ask("IsActive")["code"] == "INVALID_ARGUMENT"
        publish(settings, load(time.time() - 45, replicas=None))
        wait_until(lambda: "value" in client.ask("GetMetrics", OURS), "it is known", RECOVERY_S)
        assert client.ask("GetMetrics", OURS)["value"] == 0
        stream.begin("StreamIsActive", OURS)
        assert stream.answer()["active"] is False
        publish(settings, decision(time.time(), parameters={"replicas": 6}))
        assert stream.answer()["active"] is True
        _wait_for_value(client, 6)
        publish(settings, load(time.time() - 44, replicas=7))
        assert stream.answer()["active"] is True, "the number has changed"
        _wait_for_value(client, 7)
        # What was told last is three quarters of a minute old by now, and one minute is allowed.
        assert stream.answer()["code"] == "UNAVAILABLE"
        assert client.ask("GetMetrics", OURS)["code"] == "UNAVAILABLE"
        assert client.ask("IsActive", OURS)["code"] == "UNAVAILABLE"
        assert not any("recommended_replicas{" in line for line in scaler.metrics())


def _wait_for_value(client: Keda, value: int) -> None:
    wait_until(
        lambda: client.ask("GetMetrics", OURS).get("value") == value, f"the value is {value}", RECOVERY_S
    )


def test_the_kill_switch_is_neutral_with_kafka_up_or_down(
    own_broker: LocalBroker, tmp_path: Path, port: int
) -> None:
    settings = make_settings(own_broker, tmp_path, scaler={"grpc_port": port}, decision={"mode": "enforce"})
    topics.ensure(settings)
    scaler = Service("scaler", settings)
    with running(scaler):
        scaler.wait_ready()
        publish(settings, load(time.time()))
        wait_until(lambda: _replicas(scaler, "s") == 5, "the number is there", RECOVERY_S)
        own_broker.kill()
        with keda(port) as client:
            client.begin("StreamIsActive", OURS)
            assert client.answer()["active"] is True
            KillSwitch(settings.state_dir).kill("*", "drill")
            assert client.answer()["active"] is False
        assert 'layerwatch_recommended_replicas{service="s"} 0.0' in scaler.metrics()


SAID = """
[services.replayed]
mode = "enforce"
target_latency_ms = 8
min_replicas = 2
"""


def test_killed_three_times_in_a_replay_it_ends_where_an_unbroken_one_does(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    recording, last_s = load_recording(SHAPE_JUMP, "replayed", "replayed-0"), _last_block_s(SHAPE_JUMP)
    file = tmp_path / "services.toml"
    file.write_text(SAID)
    # A replay's times are those of the recording: how old they are is not what is tested here.
    said: dict[str, Any] = {"services": file, "scaler": {"stale_s": 1e10}}
    processor = Service("processor", patient_settings(fresh_kafka, tmp_path / "processor", **said))
    unbroken, killed = (
        Service("scaler", patient_settings(fresh_kafka, tmp_path / name, **_with_port(said)))
        for name in ("unbroken", "killed")
    )
    chance = random.Random(11)
    with running(processor, unbroken, killed), ThreadPoolExecutor() as pool:
        processor.wait_ready()
        killed.wait_ready()
        sending = pool.submit(send_slowly, processor.settings, recording, 6.0)
        for _ in range(3):
            time.sleep(chance.uniform(0, 2))
            killed.kill()
            killed.start()
        sending.result()
        for scaler in (unbroken, killed):
            wait_until(partial(_judged_until, scaler, last_s), "the last block is told", RECOVERY_S)
        told = [{line for line in s.metrics() if '"replayed"' in line} for s in (unbroken, killed)]
    assert told[0] == told[1]
    assert any(line.startswith("layerwatch_recommended_replicas") for line in told[0])


def _with_port(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "scaler": {**said["scaler"], "grpc_port": free_port()}}


def _judged_until(scaler: Service, time_s: float) -> bool:
    return scaler.metric('layerwatch_last_evaluation_timestamp_seconds{service="replayed"}') == time_s


def _last_block_s(path: Path) -> float:
    """End of the last 15 s that the recording fills."""
    last = load_recording(path, "replayed", "replayed-0").batches[-1]
    return last.window_end_s // BLOCK_S * BLOCK_S


def test_the_generated_module_is_that_of_the_proto_file(tmp_path: Path) -> None:
    assert write(tmp_path) == 0
    for name in ("externalscaler_pb2.py", "externalscaler_pb2.pyi"):
        made = tmp_path / "layerwatch/scaler/proto" / name
        own = Path(__file__).parents[2] / "services/layerwatch/scaler/proto" / name
        assert made.read_text() == own.read_text(), "run: python -m layerwatch.scaler.proto"
