"""A recording to a real Kafka and back, by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting.kafka import consumer
from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import read_parquet
from layerwatch.recording.tap import Tap
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import ENGINES, PROFILES

pytestmark = pytest.mark.kafka

CHECKOUT = Path(__file__).parents[2]
RESNET = CHECKOUT / "tests" / "data" / "resnet50-h200.npz"

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def bootstrap(fresh_kafka: LocalBroker) -> str:
    return fresh_kafka.bootstrap


@pytest.fixture
def run(bootstrap: str) -> Run:
    """Starts `layerwatch ...` against the broker."""
    environment = os.environ | {"LAYERWATCH_KAFKA__BOOTSTRAP": bootstrap}

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "layerwatch.cli.main", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return start


def summary(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def messages(bootstrap: str, instance: str) -> list[ProfileBatch]:
    """All that is on the topic from one instance."""
    from layerwatch.hosting.settings import KafkaSettings, Settings

    kafka = consumer(Settings(kafka=KafkaSettings(bootstrap=bootstrap)))
    tap = Tap(kafka, from_start=True)
    tap.start()
    found: list[ProfileBatch] = []
    quiet = 0
    while quiet < 5:
        values = tap.profiles()
        quiet = 0 if values else quiet + 1
        decoded = (Reader(ProfileBatch).decode(value) for value in values if value and value != b"garbage")
        found += [batch for batch in decoded if batch.instance == instance]
    kafka.close()
    return found


def without_boot(batches: list[ProfileBatch]) -> list[ProfileBatch]:
    return [msgspec.structs.replace(batch, boot_ms=0) for batch in batches]


def test_a_recording_is_the_same_after_a_way_through_kafka(run: Run, tmp_path: Path) -> None:
    source = read_npz(RESNET)
    began_ms = time.time_ns() // 1_000_000
    sent = summary(run("replay", RESNET, "--speed", "max", "--json"))
    assert (sent["messages"], sent["executions"]) == (len(source.batches), 13_300)
    out = tmp_path / "copy.parquet"
    kept = summary(run("record", "--out", out, "--from-start", "--executions", 13_300, "--json"))
    copy = read_parquet(out)
    assert copy.manifests == source.manifests
    assert without_boot(copy.batches) == without_boot(source.batches[:-1])  # the farewell has no execution
    assert {batch.boot_ms for batch in copy} == {sent["boot_ms"]}
    assert sent["boot_ms"] >= began_ms
    assert (kept["engines_without_manifest"], kept["undecodable"]) == (0, 0)


def test_an_interrupted_replay_says_goodbye(run: Run, bootstrap: str) -> None:
    process = run("replay", RESNET, "--speed", "2", "--instance", "interrupted", "--json")
    while len(messages(bootstrap, "interrupted")) < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    sent = summary(process, code=130)
    assert sent["interrupted"]
    found = messages(bootstrap, "interrupted")
    assert [batch.sequence for batch in found] == list(range(len(found)))
    assert [batch.state for batch in found][-1] == "leaving"
    assert len(found) == sent["messages"] + 1


def test_a_recording_from_now_holds_what_comes_and_ends_well_on_ctrl_c(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "now.parquet"
    recorder = run("record", "--out", out, "--json")
    assert recorder.stderr is not None
    assert "recording from" in recorder.stderr.readline()
    replayed = summary(run("replay", RESNET, "--speed", "max", "--instance", "now", "--now", "--json"))
    while "record: 13300 executions" not in recorder.stderr.readline():
        assert recorder.poll() is None
    recorder.send_signal(signal.SIGINT)
    assert summary(recorder)["messages"] >= replayed["messages"] - 1  # the farewell may still be on its way
    copy = read_parquet(out)
    assert {batch.instance for batch in copy} == {"now"}
    assert abs(copy.start_s - replayed["boot_ms"] / 1000) < 60


def test_what_cannot_be_decoded_is_counted_and_left_out(run: Run, bootstrap: str, tmp_path: Path) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(ENGINES, value=b"garbage", key=b"x")
    producer.send(PROFILES, value=b"garbage", key=b"x", partition=0)
    producer.close()
    recorder = run("record", "--out", tmp_path / "a.parquet", "--from-start", "--duration", 5, "--json")
    kept = summary(recorder)
    assert kept["undecodable"] == 2
    assert kept["messages"] > 0
    assert kept["messages"] == len(read_parquet(tmp_path / "a.parquet").batches)


def test_without_kafka_the_remedy_is_named() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "layerwatch.cli.main", "replay", str(RESNET)],
        env=os.environ | {"LAYERWATCH_KAFKA__BOOTSTRAP": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "layerwatch broker" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
