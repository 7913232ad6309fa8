"""A stuck processor ends itself and comes back, and one that is asked to stop goes without a trace."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from brokers import free_port
from checks import assert_alerts_survived
from stack import (
    RECOVERY_S,
    RESNET,
    SHAPE_JUMP,
    Service,
    alerts,
    load,
    offline,
    patient_settings,
    read,
    running,
    send,
    send_manifests,
    send_slowly,
    wait_for_ends,
    without_repeats,
)
from waiting import alive, wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, topics
from layerwatch.hosting.child import Child
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.supervise import Supervisor
from layerwatch.hosting.watchdog import STUCK
from layerwatch.recording.recording import Recording
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.topics import PROFILES

pytestmark = pytest.mark.kafka

IMPATIENT = {"silence_s": 3600, "checkpoint_s": 0.5, "manifest_wait_s": 10_000, "hang_s": 2}


def _of_an_unknown_engine(name: str) -> Recording:
    """A recording whose engine no other test has published."""
    recording = load(RESNET, name, f"{name}-0")
    (manifest,) = recording.manifests
    engine = f"sha256:{name}"
    batches = [msgspec.structs.replace(batch, engine=engine) for batch in recording]
    return Recording(name, [msgspec.structs.replace(manifest, engine=engine)], batches)


def _timings_only(settings: Settings, recording: Recording) -> None:
    send(settings, Recording(recording.name, [], recording.batches))


def test_a_processor_that_hangs_on_a_record_exits_70(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    recording = _of_an_unknown_engine("exits")
    settings = patient_settings(fresh_kafka, tmp_path, processor=IMPATIENT)
    processor = Service("processor", settings)
    with running(processor):
        _timings_only(settings, recording)
        assert processor.wait(RECOVERY_S) == STUCK
    assert "one record has been in work for more than 2 s" in processor.log.read_text()
    send_manifests(settings, recording.manifests)
    expected = offline(recording)
    with running(processor):
        wait_for_ends(settings, "exits", expected)
    assert without_repeats(alerts(settings, "exits")) == expected.alerts


def test_under_the_supervisor_it_comes_back_until_it_can_go_on(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    recording = _of_an_unknown_engine("comes-back")
    expected = offline(recording)
    port = free_port()
    settings = patient_settings(fresh_kafka, tmp_path, processor=IMPATIENT | {"http_port": port})
    argv = (sys.executable, "-m", "layerwatch.cli.main", "processor")
    child = Child("processor", argv, f"http://127.0.0.1:{port}/readyz", env=environment(settings))
    supervisor = Supervisor([child]).start()
    try:
        _timings_only(settings, recording)
        wait_until(lambda: supervisor.starts["processor"] >= 2, "it was started anew", RECOVERY_S)
        send_manifests(settings, recording.manifests)
        wait_for_ends(settings, "comes-back", expected)
        assert without_repeats(alerts(settings, "comes-back")) == expected.alerts
        started = supervisor.starts["processor"]
        time.sleep(3 * IMPATIENT["hang_s"])
        assert supervisor.starts["processor"] == started, "it does not go on ending itself"
    finally:
        supervisor.stop()


def test_asked_to_stop_while_records_flow_it_loses_nothing_and_leaves_the_group_at_once(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    recording = load(RESNET, "stopped", "stopped-0")
    expected = offline(recording)
    settings = patient_settings(fresh_kafka, tmp_path / "first")
    first = Service("processor", settings)
    second = Service("processor", patient_settings(fresh_kafka, tmp_path / "second"))
    with running(first):
        first.wait_ready()
        publisher = threading.Thread(target=send_slowly, args=(settings, recording, 6.0))
        publisher.start()
        wait_until(lambda: alerts(settings, "stopped"), "an alert is open", RECOVERY_S)
        pid = first.pid
        asked_s = time.monotonic()
        assert first.stop() == 0
        stopped_s = time.monotonic()
        assert not alive(pid)
        with running(second):
            second.wait_ready()
            ready_s = time.monotonic()
            publisher.join()
            wait_for_ends(settings, "stopped", expected)
    print(f"stopped in {stopped_s - asked_s:.1f} s, taken over {ready_s - stopped_s:.1f} s later")
    got = alerts(settings, "stopped")
    assert_alerts_survived(expected.alerts, got)
    assert [_essence(a) for a in without_repeats(got)] == [_essence(a) for a in expected.alerts]


def test_it_ends_well_though_another_joins_while_it_stops(own_broker: LocalBroker, tmp_path: Path) -> None:
    """The group is about to deal partitions anew when this one, which waits for an engine, is asked to stop."""
    waiting, known = _of_an_unknown_engine("waiting"), load(SHAPE_JUMP, "known", "known-0")
    patient = {
        "silence_s": 3600,
        "checkpoint_s": 60,
        "manifest_wait_s": 10_000,
    }  # not written before it stops
    settings = patient_settings(own_broker, tmp_path / "leaves", processor=patient)
    leaves = Service("processor", settings)
    joins = Service("processor", patient_settings(own_broker, tmp_path / "joins"))
    topics.ensure(settings)
    with running(leaves):
        leaves.wait_ready()
        send(settings, known)
        wait_for_ends(settings, "known", offline(known))
        _timings_only(settings, waiting)
        leaves.ask_to_stop()
        with running(joins):
            wait_until(
                lambda: "it is rebalancing" in leaves.log.read_text(), "it is told of the other", RECOVERY_S
            )
            send_manifests(settings, waiting.manifests)
            assert leaves.wait(RECOVERY_S) == 0
            in_work = {record.partition for record in read(settings, PROFILES) if record.key == b"waiting-0"}
            assert in_work <= _committed(settings), "what it had in work is acknowledged"
            joins.wait_ready()
            wait_for_ends(settings, "waiting", offline(waiting))


def _committed(settings: Settings) -> set[int]:
    """Partitions of the profiles of which processors have acknowledged records."""
    admin = kafka.admin(settings)
    try:
        offsets = admin.list_group_offsets("layerwatch-processor")["layerwatch-processor"]
    finally:
        admin.close()
    return {tp.partition for tp, at in offsets.items() if tp.topic == PROFILES and at.offset > 0}


def _essence(alert: Alert) -> tuple[object, ...]:
    """What no restart may change; scores may differ in their last digits, since states are kept rounded."""
    return (
        alert.id,
        alert.revision,
        alert.status,
        alert.severity,
        alert.causes[0].cause,
        alert.started_at,
        alert.opened_at,
        alert.updated_at,
        alert.closed_at,
    )
