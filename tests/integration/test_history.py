"""The history against a real Kafka: nothing lost and nothing doubled, whatever is killed."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from history_records import alert_json, decision_json

from layerwatch.history.reader import Reader
from layerwatch.history.store import FILE_NAME
from layerwatch.history.tables import ALERT, DECISION
from layerwatch.schemas.topics import ALERTS, DECISIONS

pytestmark = pytest.mark.kafka

REPOSITORY = Path(__file__).parents[2]
PARTITIONS = 3


# --- To be replaced by the session's broker (`kafka`) once tests/conftest.py has it: from here ... ---
CONFIG = """process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.cleaner.dedupe.buffer.size=2097152
"""


class Broker:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.servers = f"127.0.0.1:{self.port}"
        (folder / "conf").write_text(CONFIG.format(port=self.port, controller=free_port(), folder=folder))
        self.process: subprocess.Popen[bytes] | None = None

    def _java(self, *arguments: str) -> list[str]:
        libraries = os.environ.get("LAYERWATCH_STATE_DIR", REPOSITORY / ".layerwatch")
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *options, "-cp", f"{libraries}/kafka-libs/*", *arguments]

    def format(self) -> None:
        identity = base64.urlsafe_b64encode(b"lw" + uuid.uuid4().bytes[2:]).decode().rstrip("=")
        tool = self._java("kafka.tools.StorageTool", "format", "-t", identity, "-c", f"{self.folder}/conf")
        subprocess.run(tool, check=True, capture_output=True)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = self._java("kafka.Kafka", f"{self.folder}/conf")
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        eventually(lambda: accepts(self.port), "the broker is up")

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "kafka"
    folder.mkdir()
    broker = Broker(folder)
    broker.format()
    yield broker
    broker.kill()


# --- ... to here. ---


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


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
    eventually(lambda: not {ALERTS, DECISIONS} & set(admin.list_topics()), "the topics are gone")
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
    broker: Broker, tmp_path: Path
) -> None:
    broker.start()
    make_topics(broker.servers)
    values, keys = some_alerts(60_000)
    history = History(broker.servers, tmp_path / "state")
    published = midway = 0
    while midway < 3:
        assert published < len(values), "every kill came after the last row"
        publish(broker.servers, ALERTS, values[published : published + 3_000])
        published += 3_000
        with history.running() as process:
            wait_for_rows(history, more_than=rows(history))
            process.send_signal(signal.SIGKILL)
            process.wait()
        midway += rows(history) < published
    with history.running():
        eventually(history.ready, "all is read")
        assert sorted(history.stored()) == sorted(keys[:published])
        assert metric(history, 'layerwatch_history_repeated_total{kind="alert"}') == 0


def test_a_broker_that_comes_late_dies_and_comes_back_costs_nothing(broker: Broker, tmp_path: Path) -> None:
    history = History(broker.servers, tmp_path / "state")
    with history.running() as process:
        eventually(lambda: history.status("/healthz") == 200, "it is up without a broker")
        assert history.status("/readyz") == 503
        broker.start()
        make_topics(broker.servers)
        eventually(history.ready, "ready once there is a broker")
        values, keys = some_alerts(40)
        publish(broker.servers, ALERTS, values[:20])
        publish(broker.servers, DECISIONS, [decision_json(id="d")])
        eventually(lambda: history.count() == 20, "the first half is stored")
        broker.kill()
        broker.start()
        publish(broker.servers, ALERTS, [*values[20:30], b"not an alert", *values[30:]])
        eventually(lambda: history.count() == 40, "the second half is stored")
        assert sorted(history.stored()) == sorted(keys)
        assert len(Reader(tmp_path / "state" / FILE_NAME).revisions(DECISION, "d")) == 1
        assert metric(history, 'layerwatch_history_refused_total{reason="malformed"}') == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize("meanwhile", ["stopped", "running"])
def test_topics_that_were_made_anew_are_read_from_their_start(
    broker: Broker, tmp_path: Path, meanwhile: str
) -> None:
    broker.start()
    make_topics(broker.servers)
    values, keys = some_alerts(40)
    publish(broker.servers, ALERTS, values[:10])
    history = History(broker.servers, tmp_path / "state")
    with history.running() as process:
        eventually(lambda: rows(history) == 10, "the first topics are read")
        if meanwhile == "stopped":
            process.terminate()
            assert process.wait(10) == 0
        remake_topics(broker.servers)
        publish(broker.servers, ALERTS, values[10:])  # more than before: the offsets alone would not tell
        if meanwhile == "running":
            eventually(lambda: rows(history) == 40, "the new topics are read")
    with history.running():
        eventually(history.ready, "all is read")
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
    eventually(lambda: rows(history) > more_than, "something more is stored")


def metric(history: History, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{history.port}/metrics", timeout=5) as answer:
        lines: Any = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])
