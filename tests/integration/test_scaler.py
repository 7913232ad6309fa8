"""The scaler against a real Kafka, asked by a real gRPC client that was generated from the .proto file, and killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port, make_settings
from keda import Keda, keda
from scaler_records import decision, load
from stack import RECOVERY_S, Service, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.settings import Settings
from layerwatch.scaler.proto.__main__ import write
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.load import Load
from layerwatch.schemas.topics import DECISIONS_CURRENT, LOAD

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


def publish(settings: Settings, *records: Load | Decision) -> None:
    with publisher(settings) as send:
        send(*records)


@contextmanager
def publisher(settings: Settings) -> Iterator[Callable[..., None]]:
    """A function that sends records and waits until Kafka has them."""
    producer: Any = kafka.producer(settings)

    def send(*records: Load | Decision) -> None:
        for record in records:
            topic = LOAD if isinstance(record, Load) else DECISIONS_CURRENT
            key = record.service if isinstance(record, Load) else record.target.key
            producer.send(topic, key=key.encode(), value=encode_json(record))
        producer.flush(30)

    try:
        yield send
    finally:
        kafka.abandon(producer)


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
    from layerwatch.hosting import topics

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


def test_killed_three_times_while_load_comes_it_ends_where_an_unbroken_one_does(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    kill_at_random_moments(fresh_kafka, tmp_path, kills=3, seed=7)


def kill_at_random_moments(broker: LocalBroker, tmp_path: Path, kills: int, seed: int) -> None:
    """Two scalers, one of them killed: at the end both say the same of every service."""
    chance = random.Random(seed)
    homes = tmp_path / "unbroken", tmp_path / "killed"
    both = []
    for home in homes:
        home.mkdir()
        # Records are as old as the test is long: old news is not what is tested here.
        scaler = {"grpc_port": free_port(), "stale_s": 3600}
        both.append(
            Service("scaler", make_settings(broker, home, scaler=scaler, decision={"mode": "enforce"}))
        )
    unbroken, killed = both
    names = [f"chaos-{seed}-{number}" for number in range(20)]
    with running(*both), publisher(unbroken.settings) as send:
        unbroken.wait_ready()
        for epoch in range(1, kills + 1):
            killed.wait_ready()
            send(*(record for name in names for record in _some(name, epoch, chance)))
            time.sleep(chance.uniform(0, 0.5))
            killed.kill()
            send(*(record for name in chance.sample(names, 5) for record in _some(name, epoch, chance)))
            killed.start()
        killed.wait_ready()

        def told(service: Service) -> set[str]:
            return {line for line in service.metrics() if f"chaos-{seed}-" in line}

        last = f"chaos-{seed}-last"
        send(load(time.time(), last))
        for service in both:
            wait_until(partial(_replicas, service, last), "the end is read", RECOVERY_S)
        assert len({line for line in told(unbroken) if "recommended" in line}) == len(names) + 1
        assert told(killed) == told(unbroken)


def _some(name: str, epoch: int, chance: random.Random) -> list[Load | Decision]:
    now_s, parameters = time.time(), {"replicas": chance.randint(2, 30)}
    status, revision = chance.choice(["active", "withdrawn"]), chance.randint(1, 9)
    return [
        load(now_s, name, replicas=chance.randint(1, 20)),
        decision(now_s, name, epoch=epoch, revision=revision, status=status, parameters=parameters),
    ]


def test_the_generated_module_is_that_of_the_proto_file(tmp_path: Path) -> None:
    assert write(tmp_path) == 0
    for name in ("externalscaler_pb2.py", "externalscaler_pb2.pyi"):
        made = tmp_path / "layerwatch/scaler/proto" / name
        own = Path(__file__).parents[2] / "services/layerwatch/scaler/proto" / name
        assert made.read_text() == own.read_text(), "run: python -m layerwatch.scaler.proto"
