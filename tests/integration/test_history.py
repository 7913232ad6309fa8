"""The history against a real Kafka: nothing lost and nothing doubled, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port
from history_records import alert_json, decision_json
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.history.reader import Reader
from layerwatch.history.store import FILE_NAME
from layerwatch.history.tables import ALERT, DECISION
from layerwatch.schemas.topics import ALERTS, DECISIONS

pytestmark = pytest.mark.kafka

PARTITIONS = 3


def make_topics(servers: str) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (ALERTS, DECISIONS)])
    admin.close()


def remake_topics(servers: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_topics([ALERTS, DECISIONS])
    wait_until(lambda: not {ALERTS, DECISIONS} & set(admin.list_topics()), "the topics are gone")
    admin.close()
    make_topics(servers)


def publish(servers: str, topic: str, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=20)
    for number, value in enumerate(values):
        producer.send(topic, value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()


class History:
    """`layerwatch history` as a process of its own."""

    def __init__(self, servers: str, state: Path) -> None:
        self.servers, self.state, self.port = servers, state, free_port()

    def start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "LAYERWATCH_KAFKA__BOOTSTRAP": self.servers,
            "LAYERWATCH_STATE_DIR": str(self.state),
            "LAYERWATCH_HISTORY__HTTP_PORT": str(self.port),
        }
        return subprocess.Popen([sys.executable, "-m", "layerwatch.cli.main", "history"], env=environment)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start()
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def ready(self) -> bool:
        return self.status("/readyz") == 200

    def stored(self) -> list[tuple[str, int]]:
        """(id, revision) of every alert in the order of the database."""
        reader = Reader(self.state / FILE_NAME)
        items = reader.page(ALERT, [], None, 1_000_000).items
        ids = [json.loads(item)["id"] for item in items]
        return [(id, json.loads(text)["revision"]) for id in ids for text in reader.revisions(ALERT, id)]

    def count(self) -> int:
        return len(self.stored()) if (self.state / FILE_NAME).exists() else 0


def some_alerts(count: int) -> tuple[list[bytes], list[tuple[str, int]]]:
    keys = [(f"alert-{number // 4}", number % 4 + 1) for number in range(count)]
    return [alert_json(id=id, revision=revision) for id, revision in keys], keys


def test_killed_again_and_again_while_reading_it_ends_complete_and_nothing_is_doubled(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    make_topics(own_broker.bootstrap)
    values, keys = some_alerts(60_000)
    history = History(own_broker.bootstrap, tmp_path / "state")
    published = midway = 0
    while midway < 3:
        assert published < len(values), "every kill came after the last row"
        publish(own_broker.bootstrap, ALERTS, values[published : published + 3_000])
        published += 3_000
        with history.running() as process:
            wait_for_rows(history, more_than=rows(history))
            process.send_signal(signal.SIGKILL)
            process.wait()
        midway += rows(history) < published
    with history.running():
        wait_until(history.ready, "all is read")
        assert sorted(history.stored()) == sorted(keys[:published])
        assert metric(history, 'layerwatch_history_repeated_total{kind="alert"}') == 0


def test_a_broker_that_comes_late_dies_and_comes_back_costs_nothing(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    own_broker.stop()
    history = History(own_broker.bootstrap, tmp_path / "state")
    with history.running() as process:
        wait_until(lambda: history.status("/healthz") == 200, "it is up without a broker")
        assert history.status("/readyz") == 503
        own_broker.start()
        make_topics(own_broker.bootstrap)
        wait_until(history.ready, "ready once there is a broker")
        values, keys = some_alerts(40)
        publish(own_broker.bootstrap, ALERTS, values[:20])
        publish(own_broker.bootstrap, DECISIONS, [decision_json(id="d")])
        wait_until(lambda: history.count() == 20, "the first half is stored")
        own_broker.kill()
        own_broker.start()
        publish(own_broker.bootstrap, ALERTS, [*values[20:30], b"not an alert", *values[30:]])
        wait_until(lambda: history.count() == 40, "the second half is stored")
        assert sorted(history.stored()) == sorted(keys)
        assert len(Reader(tmp_path / "state" / FILE_NAME).revisions(DECISION, "d")) == 1
        assert metric(history, 'layerwatch_history_refused_total{reason="malformed"}') == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize("meanwhile", ["stopped", "running"])
def test_topics_that_were_made_anew_are_read_from_their_start(
    own_broker: LocalBroker, tmp_path: Path, meanwhile: str
) -> None:
    make_topics(own_broker.bootstrap)
    values, keys = some_alerts(40)
    publish(own_broker.bootstrap, ALERTS, values[:10])
    history = History(own_broker.bootstrap, tmp_path / "state")
    with history.running() as process:
        wait_until(lambda: rows(history) == 10, "the first topics are read")
        if meanwhile == "stopped":
            process.terminate()
            assert process.wait(10) == 0
        remake_topics(own_broker.bootstrap)
        publish(
            own_broker.bootstrap, ALERTS, values[10:]
        )  # more than before: the offsets alone would not tell
        if meanwhile == "running":
            wait_until(lambda: rows(history) == 40, "the new topics are read")
    with history.running():
        wait_until(history.ready, "all is read")
        assert sorted(history.stored()) == sorted(keys)


def rows(history: History) -> int:
    """Stored revisions, without reading them."""
    path = history.state / FILE_NAME
    if not path.exists():
        return 0
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        (count,) = db.execute("SELECT count(*) FROM alert_revisions").fetchone()
        db.close()
    except sqlite3.OperationalError:  # no tables yet
        return 0
    assert isinstance(count, int)
    return count


def wait_for_rows(history: History, more_than: int) -> None:
    wait_until(lambda: rows(history) > more_than, "something more is stored")


def metric(history: History, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{history.port}/metrics", timeout=5) as answer:
        lines: Any = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])
