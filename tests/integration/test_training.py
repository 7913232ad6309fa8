"""What processors tell of healthy instances becomes models, and those reach the processors, without a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

pytest.importorskip("torch")

from stack import RECOVERY_S, RESNET, Service, load, patient_settings, read, running, send
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.detectors.models import forest_bytes, shipped
from layerwatch.detectors.pooled import SCHEMA
from layerwatch.hosting import kafka
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.models import ModelRecord
from layerwatch.schemas.topics import FEATURES, MODELS
from layerwatch.training.harvest import gathered

pytestmark = [pytest.mark.kafka, pytest.mark.torch]

INSTANCES = 12  # some 25 healthy windows each, of which a forest needs 256
NAN = np.array([np.nan], np.float32).tobytes()


def test_models_fitted_on_what_processors_told_are_taken_up(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    settings = patient_settings(fresh_kafka, tmp_path)
    early = run(settings, "--publish")
    assert early.returncode != 0
    assert "0 healthy windows are too few" in early.stderr
    assert "Traceback" not in early.stderr
    processor = Service("processor", settings)
    recordings = [load(RESNET, "trained", f"trained-{n}") for n in range(INSTANCES)]
    build = recordings[0].manifests[0].engine
    with running(processor):
        for recording in recordings:
            send(settings, recording)
        executed = sum(recording.executions for recording in recordings)
        wait_until(
            lambda: processor.metric("layerwatch_executions_total") >= executed,
            "all is folded in",
            RECOVERY_S,
        )
        told = [Reader(FeatureRecord).decode(record.value or b"") for record in read(settings, FEATURES)]
        assert {(record.build, record.instance) for record in told} == {
            (build, f"trained-{n}") for n in range(INSTANCES)
        }
        with closing(kafka.producer(settings)) as sender:
            sender.send(FEATURES, b"not a record", b"garbage").get(30)
            for changes in (
                {"windows": b"123"},
                {"windows": b"1234"},
                {"seconds": {"host": NAN}},
                {"columns": 0},
            ):
                sender.send(FEATURES, encode(replace(told[0], **changes)), b"spoilt").get(30)

        summary = train(settings)
        assert summary["windows"] == len(gathered(told).all_windows()) > 256
        assert summary["refused"] == 5
        assert summary["forest"]["held_out_windows"] > 64
        assert build in summary["forest"]["builds"]
        assert "let instances run for longer" in summary["slow_lstm"]["left as it is"]
        assert "*/lstm/level" in summary["published"]
        wait_until(
            lambda: all(taken_up(processor, key) for key in summary["published"]),
            "all are taken up",
            RECOVERY_S,
        )
        key = f"{build}/forest/pooled"
        own = shipped().forest
        assert own is not None
        record = ModelRecord(
            build=build,
            kind="forest",
            stream="pooled",
            features=SCHEMA,
            valid_from_s=0.0,
            tensors=forest_bytes(own),
        )
        with closing(kafka.producer(settings)) as sender:
            sender.send(MODELS, encode(record), key.encode()).get(30)
            wait_until(lambda: taken_up(processor, key), "a build's own is taken up", RECOVERY_S)
            sender.send(MODELS, None, key.encode()).get(30)
            wait_until(lambda: f"model {key} withdrawn" in log(processor), "it is withdrawn", RECOVERY_S)
        assert processor.stop() == 0


def train(settings: Settings) -> dict[str, Any]:
    done = run(settings, "--publish", "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def run(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "layerwatch.cli.main", "train", *options]
    return subprocess.run(
        argv, env=environment(settings), capture_output=True, text=True, timeout=300, check=False
    )


def taken_up(service: Service, key: str) -> bool:
    return f"model {key} taken up" in log(service)


def log(service: Service) -> str:
    return service.log.read_text()
