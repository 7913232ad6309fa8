"""The topics: created once, and what is wrong with them is said with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from brokers import free_port, make_settings

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.environment import environment
from layerwatch.hosting.kafka import admin, consumer, producer
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.topics import DEADLETTER, ENGINES, MODELS, PROFILES, TOPICS

pytestmark = pytest.mark.kafka


def _run(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "layerwatch.cli.main", "topics", *options]
    return subprocess.run(argv, env=environment(settings), capture_output=True, text=True, check=False)


def test_creates_what_is_missing_once_and_finds_nothing_wrong_then(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(own_broker, tmp_path)
    assert len(topics.check(settings)) == len(TOPICS)
    assert topics.ensure(settings) == [topic.name for topic in TOPICS]
    assert topics.ensure(settings) == []
    assert topics.check(settings) == []


def test_several_processes_may_create_them_at_once(own_broker: LocalBroker, tmp_path: Path) -> None:
    settings = make_settings(own_broker, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda _: topics.ensure(settings), range(4)))
    assert sorted(name for names in created for name in names) == sorted(topic.name for topic in TOPICS)
    assert topics.check(settings) == []


def test_wrong_partitions_policy_and_size_are_reported_with_remedies(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(own_broker, tmp_path)
    with closing(admin(settings)) as client:
        client.create_topics(
            {
                PROFILES: {"num_partitions": 3, "replication_factor": 1},
                ENGINES: {"num_partitions": 1, "replication_factor": 1},
                DEADLETTER: {
                    "num_partitions": 1,
                    "replication_factor": 1,
                    "configs": {"max.message.bytes": "500000"},
                },
            }
        )
    topics.ensure(settings)
    found = topics.inspect(settings)
    assert "3 partitions instead of 4: set LAYERWATCH_KAFKA__PARTITIONS=3" in found[PROFILES][0]
    assert "cleanup.policy=delete instead of compact: run kafka-configs.sh" in found[ENGINES][0]
    assert "max.message.bytes=500000 instead of 1000000" in found[DEADLETTER][0]
    assert sum(map(len, found.values())) == 3


def test_the_command_creates_prints_and_fails_when_something_is_wrong(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(own_broker, tmp_path)
    looked = _run(settings, "--check")
    assert looked.returncode == 1
    assert f"{PROFILES} is missing: run `layerwatch topics`" in looked.stdout
    made = _run(settings, "--json")
    assert made.returncode == 0, made.stderr
    assert [json.loads(line)["state"] for line in made.stdout.splitlines()] == ["created"] * len(TOPICS)
    assert _run(settings, "--check").returncode == 0
    other = _run(make_settings(own_broker, tmp_path, kafka={"partitions": 6}))
    assert other.returncode == 1
    assert "4 partitions instead of 6" in other.stdout


def test_without_a_kafka_every_client_says_how_to_get_one(tmp_path: Path) -> None:
    settings = make_settings(LocalBroker(tmp_path, tmp_path, free_port()), tmp_path)
    for build in (producer, consumer, admin):
        with pytest.raises(Unavailable, match=r"no Kafka at 127\.0\.0\.1:.*`layerwatch broker`.*BOOTSTRAP"):
            build(settings, bootstrap_timeout_ms=200)


def test_a_record_of_nearly_a_million_bytes_goes_through(settings: Settings) -> None:
    value = bytes(999_000)
    with closing(producer(settings)) as writer:
        assert writer.send(MODELS, value, b"large").get(60).offset >= 0
