"""An instance that falls silent without a goodbye is evidence; silence is the one thing judged on the present's clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import RECOVERY_S, RESNET, Service, alerts, load, patient_settings, read, running, send
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.alerts import Alert

pytestmark = pytest.mark.kafka

SILENCE_S = 2.0

#: Messages that leave the instance serving and healthy.
HEALTHY = 30


@pytest.fixture
def settings(fresh_kafka: LocalBroker, tmp_path: Path) -> Settings:
    return patient_settings(fresh_kafka, tmp_path, processor={"silence_s": SILENCE_S, "checkpoint_s": 0.5})


@pytest.fixture
def processor(settings: Settings) -> Iterator[Service]:
    service = Service("processor", settings)
    with running(service):
        yield service


def _silences(settings: Settings, service: str, status: str) -> list[Alert]:
    return [a for a in alerts(settings, service) if a.kind == "silence" and a.status == status]


def _wait_for(settings: Settings, service: str, status: str) -> None:
    wait_until(lambda: _silences(settings, service, status), f"a silence is {status}", RECOVERY_S)


def test_silence_is_told_once_and_ends_when_the_instance_speaks_again(
    settings: Settings, processor: Service
) -> None:
    recording = load(RESNET, "quiet", "quiet-0")
    send(settings, recording, 0, HEALTHY)
    _wait_for(settings, "quiet", "firing")
    send(settings, recording, HEALTHY, HEALTHY + 1)
    _wait_for(settings, "quiet", "resolved")
    told = [a for a in alerts(settings, "quiet") if a.kind == "silence"][:2]
    assert [(a.revision, a.status, a.instances) for a in told] == [
        (1, "firing", ["quiet-0"]),
        (2, "resolved", ["quiet-0"]),
    ]
    assert told[0].id == told[1].id


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_restart_in_between_neither_repeats_nor_renames_a_silence(
    settings: Settings, processor: Service, end: str
) -> None:
    name = f"restarted-{end}"
    recording = load(RESNET, name, f"{name}-0")
    send(settings, recording, 0, HEALTHY)
    _wait_for(settings, name, "firing")
    wait_until(lambda: _is_saved(settings, name), "the silence is saved", RECOVERY_S)
    if end == "killed":
        processor.kill()
    else:
        assert processor.stop() == 0
    processor.start().wait_ready()
    other = load(RESNET, f"{name}-other", f"{name}-other-0")  # its silence shows that time has passed since
    send(settings, other, 0, HEALTHY)
    _wait_for(settings, f"{name}-other", "firing")
    send(settings, recording, HEALTHY, HEALTHY + 1)
    _wait_for(settings, name, "resolved")
    told = [(a.revision, a.status) for a in alerts(settings, name) if a.kind == "silence"]
    assert told[:2] == [(1, "firing"), (2, "resolved")]


def _is_saved(settings: Settings, service: str) -> bool:
    """Whether the state that a restart would find knows of the silence."""
    id = _silences(settings, service, "firing")[0].id.encode()
    return any(
        id in (record.value or b"") for record in read(settings, "layerwatch-processor-services-changelog")
    )


def test_an_instance_that_said_goodbye_is_not_missed(settings: Settings, processor: Service) -> None:
    whole, cut = load(RESNET, "left", "left-0"), load(RESNET, "left", "left-1")
    assert whole.batches[-1].state == "leaving"
    send(settings, whole)
    send(settings, cut, 0, HEALTHY)
    _wait_for(settings, "left", "firing")
    assert {name for a in _silences(settings, "left", "firing") for name in a.instances} == {"left-1"}
