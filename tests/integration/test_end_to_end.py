"""A recording through Kafka gives what it gives offline, whatever is killed on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from checks import assert_alerts_survived, assert_decisions_survived, assert_valid_events
from stack import (
    RECOVERY_S,
    RESNET,
    SHAPE_JUMP,
    Service,
    alerts,
    decisions,
    firing_index,
    load,
    offline,
    patient_settings,
    read,
    running,
    send,
    wait_for_decisions,
    wait_for_ends,
    wait_for_history,
    without_repeats,
)
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.settings import Settings
from layerwatch.recording.recording import Recording
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.topics import ALERTS, ALERTS_CURRENT, DECISIONS, DECISIONS_CURRENT

pytestmark = pytest.mark.kafka


def _send_with(
    settings: Settings, recording: Recording, accident: Callable[[], None], opened: Callable[[], object]
) -> None:
    """Half of a recording, then the accident while an alert is open, then the other half."""
    half = firing_index(recording)
    send(settings, recording, 0, half)
    wait_until(opened, "an alert is open", RECOVERY_S)
    accident()
    send(settings, recording, half)


def _executions(*processors: Service) -> float:
    return sum(processor.metric("layerwatch_executions_total") for processor in processors)


@pytest.mark.parametrize("path", [RESNET, SHAPE_JUMP], ids=lambda p: p.stem)
def test_the_way_through_kafka_changes_nothing_and_gives_valid_events(
    fresh_kafka: LocalBroker, tmp_path: Path, path: Path
) -> None:
    name = f"same-{path.stem}"
    recording = load(path, name, f"{name}-0")
    expected = offline(recording)
    settings = patient_settings(fresh_kafka, tmp_path)
    services = Service("processor", settings), Service("decision", settings)
    with running(*services):
        send(settings, recording)
        wait_for_decisions(settings, name, expected)
    for service in services:
        assert "\x1b" not in service.log.read_text(), "no escapes where there is no terminal"
    assert_valid_events(read(settings, ALERTS), "alert", "/layerwatch/processor", "updated_at")
    assert_valid_events(read(settings, ALERTS_CURRENT), "alert", "/layerwatch/processor", "updated_at")
    assert_valid_events(read(settings, DECISIONS), "decision", "/layerwatch/decision", "issued_at")
    assert_valid_events(read(settings, DECISIONS_CURRENT), "decision", "/layerwatch/decision", "issued_at")
    assert without_repeats(alerts(settings, name)) == expected.alerts
    assert [_essence(d) for d in without_repeats(decisions(settings, name))] == [
        _essence(d) for d in expected.decisions
    ]


def _essence(decision: Decision) -> tuple[object, ...]:
    """All but the times, in which the clock of the present has a part."""
    return msgspec.structs.astuple(msgspec.structs.replace(decision, issued_at="", expires_at=""))


def test_a_killed_processor_loses_doubles_and_renames_nothing(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    recording = load(RESNET, "killed", "killed-0")
    expected = offline(recording)
    settings = patient_settings(fresh_kafka, tmp_path)
    processor, history = Service("processor", settings), Service("history", settings)

    def accident() -> None:
        processor.kill()
        processor.start()

    with running(processor, history):
        _send_with(settings, recording, accident, lambda: alerts(settings, "killed"))
        wait_for_ends(settings, "killed", expected)
        assert processor.stop() == 0
        published = alerts(settings, "killed")
        assert_alerts_survived(expected.alerts, published)
        wait_for_history(settings, "killed", published)


def test_a_killed_broker_loses_doubles_and_renames_nothing(own_broker: LocalBroker, tmp_path: Path) -> None:
    recording = load(RESNET, "broker", "broker-0")
    expected = offline(recording)
    settings = patient_settings(own_broker, tmp_path)
    topics.ensure(settings)

    def accident() -> None:
        own_broker.kill()
        own_broker.start()

    services = [Service(name, settings) for name in ("processor", "decision", "history")]
    with running(*services):
        _send_with(settings, recording, accident, lambda: alerts(settings, "broker"))
        wait_for_ends(settings, "broker", expected)
        wait_for_decisions(settings, "broker", expected)
        assert all(service.running for service in services), "none had to be started again"
        published = alerts(settings, "broker")
        assert_alerts_survived(expected.alerts, published)
        assert_decisions_survived(expected.decisions, decisions(settings, "broker"))
        wait_for_history(settings, "broker", published)


def test_killed_history_and_decision_centre_lose_and_double_nothing(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    recording = load(SHAPE_JUMP, "decided", "decided-0")
    expected = offline(recording)
    settings = patient_settings(own_broker, tmp_path)
    topics.ensure(settings)
    history, decision = Service("history", settings), Service("decision", settings)

    def accident() -> None:
        for service in (history, decision):
            service.kill()
            service.start()

    with running(Service("processor", settings), decision, history):
        _send_with(settings, recording, accident, lambda: decisions(settings, "decided"))
        wait_for_decisions(settings, "decided", expected)
        assert decision.stop() == 0
        assert_decisions_survived(expected.decisions, decisions(settings, "decided"))
        published = alerts(settings, "decided")
        assert without_repeats(published) == expected.alerts, "nothing happened to the processor"
        wait_for_history(settings, "decided", published)


def test_of_two_processors_one_is_killed_and_the_other_goes_on(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    homes = [tmp_path / "first", tmp_path / "second"]
    first, second = (Service("processor", patient_settings(own_broker, home)) for home in homes)
    settings = first.settings
    topics.ensure(settings)
    recordings = [load(SHAPE_JUMP, f"shared-{n}", f"shared-{n}-0") for n in range(6)]
    expected = {f"shared-{n}": offline(recording) for n, recording in enumerate(recordings)}
    half = firing_index(recordings[0])
    with running(first, second):
        first.wait_ready()
        second.wait_ready()
        for recording in recordings:
            send(settings, recording, 0, half)
        wait_until(lambda: all(alerts(settings, name) for name in expected), "alerts are open", RECOVERY_S)
        folded = 'layerwatch_records_total{operator="instances"}'
        assert first.metric(folded) > 0, "both have work"
        assert second.metric(folded) > 0, "both have work"
        first.kill()
        for recording in recordings:
            send(settings, recording, half)
        for name, wanted in expected.items():
            wait_for_ends(settings, name, wanted)
        assert second.running
        assert second.stop() == 0
    for name, wanted in expected.items():
        assert_alerts_survived(wanted.alerts, alerts(settings, name))


def test_a_processor_that_joins_while_there_is_a_backlog_loses_nothing(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    patience = {
        "silence_s": 3600,
        "checkpoint_s": 4,
    }  # so that much is under way when partitions change hands
    homes = [tmp_path / "first", tmp_path / "second"]
    first, second = (
        Service("processor", patient_settings(own_broker, home, processor=patience)) for home in homes
    )
    settings = first.settings
    topics.ensure(settings)
    recordings = [load(SHAPE_JUMP, f"joined-{n}", f"joined-{n}-0") for n in range(10)]
    expected = {f"joined-{n}": offline(recording) for n, recording in enumerate(recordings)}
    with running(first):
        first.wait_ready()
        with running(second):
            for recording in recordings:
                send(settings, recording)
            second.wait_ready()
            for name, wanted in expected.items():
                wait_for_ends(settings, name, wanted)
            sent = sum(recording.executions for recording in recordings)
            wait_until(lambda: _executions(first, second) >= sent, "every execution is folded in", RECOVERY_S)
            assert first.stop() == 0
            assert second.stop() == 0
    for name, wanted in expected.items():
        assert_alerts_survived(wanted.alerts, alerts(settings, name))
