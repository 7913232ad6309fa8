"""Fifty kills of the scaler while load and decisions come. LAYERWATCH_CHAOS_SEED repeats a run."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

import pytest
from brokers import free_port, make_settings
from scaler_records import decision, load, publisher
from stack import RECOVERY_S, Service, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.load import Load

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("LAYERWATCH_CHAOS_KILLS", "50"))


def test_killed_fifty_times_it_ends_where_an_unbroken_one_does(
    fresh_kafka: LocalBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("LAYERWATCH_CHAOS_SEED", random.randrange(1 << 32)))
    with capsys.disabled():
        print(f"\nscaler: seed {seed}, {KILLS} kills", flush=True)
    _kill_at_random_moments(fresh_kafka, tmp_path, KILLS, seed)


def _kill_at_random_moments(broker: LocalBroker, tmp_path: Path, kills: int, seed: int) -> None:
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
            if chance.random() < 0.5:  # else it is killed while it starts
                killed.wait_ready()
            send(*(record for name in names for record in _some(name, epoch, chance)))
            time.sleep(chance.uniform(0, 2))
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


def _replicas(scaler: Service, service: str) -> bool:
    return scaler.metric(f'layerwatch_recommended_replicas{{service="{service}"}}') == 5
