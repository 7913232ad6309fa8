"""What cannot be read costs itself alone: it is kept with its reason, counted, and all else goes on."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from stack import (
    RECOVERY_S,
    RESNET,
    Service,
    alerts,
    firing_index,
    load,
    offline,
    patient_settings,
    read,
    running,
    send,
    send_manifests,
    wait_for_ends,
    without_repeats,
)
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, topics
from layerwatch.hosting.settings import Settings
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.deadletter import DeadLetter
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.signals import Signal
from layerwatch.schemas.topics import ALERTS, DEADLETTER, PROFILES, SIGNALS

pytestmark = pytest.mark.kafka

HUGE = 5 << 20


class Bad(NamedTuple):
    reason: str
    value: bytes | None
    key: bytes


def _bad(recording: Recording, at: int) -> list[Bad]:
    """One of each kind, made from the recording's own message `at`, which comes next, under its key."""
    good = recording.batches[at]
    assert good.layers
    key = good.instance.encode()
    n = len(good.times_s) // 8

    def changed(**fields: Any) -> bytes:
        return encode(msgspec.structs.replace(good, **fields))

    other_major = msgspec.msgpack.decode(encode(good))
    other_major[0] = "layerwatch.profiles/2"
    block = good.layers[0]
    fewer = msgspec.structs.replace(block, layers=block.layers - 1)
    return [
        Bad("malformed", b"\x00\xff not a record", key),
        Bad("malformed", encode(good)[:-7], key),
        Bad("malformed", b"", key),
        Bad("malformed", None, key),
        Bad("unsupported_version", msgspec.msgpack.encode(other_major), key),
        Bad("bad_time", changed(times_s=struct.pack(f"<{n}d", *[float("nan")] * n)), key),
        Bad("bad_time", changed(times_s=struct.pack(f"<{n}d", *[-1.0] * n)), key),
        Bad("bad_time", changed(window_end_s=-5.0), key),
        Bad("bad_time", changed(end_to_end_ms=struct.pack(f"<{n}f", *[float("nan")] * n)), key),
        Bad("bad_column", changed(times_s=good.times_s[:-3]), key),
        Bad("layer_count", changed(layers=[fewer]), key),
        Bad("unknown_profile", changed(layers=[msgspec.structs.replace(block, profile=77)]), key),
        Bad("missing_manifest", changed(engine="sha256:nobody-built-this"), key),
        Bad("wrong_key", changed(instance=f"{good.instance}-of-another"), key),
        Bad("too_large", b"x" * HUGE, key),
    ]


@pytest.fixture(scope="module")
def settings(fresh_kafka: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Topics that take messages of any size, and a processor that does not wait for manifests for long."""
    home = tmp_path_factory.mktemp("bad-input")
    made = patient_settings(
        fresh_kafka, home, processor={"silence_s": 3600, "checkpoint_s": 0.5, "manifest_wait_s": 1}
    )
    admin = KafkaAdminClient(bootstrap_servers=fresh_kafka.bootstrap)
    resource = ConfigResource(
        ConfigResourceType.TOPIC, PROFILES, configs={"max.message.bytes": str(2 * HUGE)}
    )
    admin.alter_configs([resource])
    admin.close()
    return made


@pytest.fixture(scope="module")
def processor(settings: Settings) -> Iterator[Service]:
    service = Service("processor", settings)
    with running(service):
        yield service


def _put(
    settings: Settings, topic: str, records: list[tuple[bytes | None, bytes]], **where: Any
) -> list[Any]:
    """Send values with their keys; where they came to lie."""
    sender: Any = kafka.producer(settings, max_request_size=2 * HUGE)
    try:
        sent = [sender.send(topic, value, key=key, **where) for value, key in records]
        return [future.get(60) for future in sent]
    finally:
        kafka.abandon(sender)


def _dead_letters(settings: Settings, topic: str) -> dict[tuple[int, int], DeadLetter]:
    reader = Reader(DeadLetter)
    letters = [reader.decode(record.value or b"") for record in read(settings, DEADLETTER)]
    return {(letter.partition, letter.offset): letter for letter in letters if letter.topic == topic}


def _assert_kept(settings: Settings, topic: str, bad: list[Bad], lies: list[Any]) -> None:
    """Each has a dead letter that says why, with what was sent."""

    def missing() -> list[Bad]:
        letters = _dead_letters(settings, topic)
        pairs = zip(bad, lies, strict=True)
        return [sent for sent, lie in pairs if (lie.partition, lie.offset) not in letters]

    try:
        wait_until(lambda: not missing(), "all have dead letters", RECOVERY_S)
    except AssertionError:
        print(
            "without a dead letter:",
            [(b.reason, b.value[:50] if b.value is not None else None) for b in missing()],
        )
        raise
    letters = _dead_letters(settings, topic)
    for sent, lie in zip(bad, lies, strict=True):
        letter = letters[lie.partition, lie.offset]
        value = sent.value or b""
        assert letter.reason == sent.reason, letter.detail
        assert (letter.key, letter.size, value[: len(letter.value)]) == (sent.key, len(value), letter.value)
        assert letter.detail


def test_bad_timings_among_good_ones_change_no_alert_and_are_kept_and_counted(
    settings: Settings, processor: Service
) -> None:
    recording = load(RESNET, "mixed", "mixed-0")
    expected = offline(recording)
    half = firing_index(recording)
    bad = _bad(recording, half)
    send(settings, recording, 0, half)
    lies = _put(settings, PROFILES, [(b.value, b.key) for b in bad])
    send(settings, recording, half)
    wait_for_ends(settings, "mixed", expected)
    assert without_repeats(alerts(settings, "mixed")) == expected.alerts
    (partition,) = {r.partition for r in read(settings, PROFILES) if r.key == b"mixed-0"}
    assert {lie.partition for lie in lies} == {partition}
    _assert_kept(settings, PROFILES, bad, lies)
    for reason in {b.reason for b in bad}:
        sample = f'layerwatch_refused_total{{operator="instances",reason="{reason}"}}'
        assert processor.metric(sample) == sum(b.reason == reason for b in bad), reason


def test_bad_signals_and_bad_alerts_are_kept_and_counted_likewise(
    settings: Settings, processor: Service
) -> None:
    signal = Signal(service="bad", instance="bad-0", boot_ms=1, sequence=1, engine="e", time_s=1.0)
    bad_signals = [
        Bad("malformed", b"garbage", b"bad"),
        Bad("malformed", encode(signal)[:-2], b"bad"),
        Bad("wrong_key", encode(signal), b"good"),
    ]
    bad_alerts = [
        Bad("malformed", b"garbage", b"bad"),
        Bad("unsupported_version", b'{"schema": "layerwatch.alert/9", "id": "a"}', b"bad"),
    ]
    recording = load(RESNET, "beside", "beside-0")
    expected = offline(recording)
    decision = Service("decision", settings)
    with running(decision):
        lies = _put(settings, SIGNALS, [(b.value, b.key) for b in bad_signals], partition=0)
        _assert_kept(settings, SIGNALS, bad_signals, lies)
        lies = _put(settings, ALERTS, [(b.value, b.key) for b in bad_alerts], partition=0)
        _assert_kept(settings, ALERTS, bad_alerts, lies)
        sample = 'layerwatch_refused_total{operator="services",reason="malformed"}'
        assert processor.metric(sample) == 2
        sample = 'layerwatch_refused_total{operator="decisions",reason="unsupported_version"}'
        assert decision.metric(sample) == 1
    send(settings, recording)
    wait_until(
        lambda: {a.id for a in expected.alerts} <= _resolved(settings, "beside"), "all goes on", RECOVERY_S
    )


def _resolved(settings: Settings, service: str) -> set[str]:
    """Ids of resolved alerts; the topic holds garbage too."""
    found = [record for record in read(settings, ALERTS) if record.key == service.encode()]
    decoded = [msgspec.json.decode(record.value or b"") for record in found]
    return {alert["id"] for alert in decoded if alert["status"] == "resolved"}


def test_a_manifest_that_comes_a_little_later_is_waited_for(own_broker: LocalBroker, tmp_path: Path) -> None:
    recording = _of_another_engine(load(RESNET, "late", "late-0"), "sha256:late")
    expected = offline(recording)
    settings = patient_settings(
        own_broker,
        tmp_path,
        processor={"silence_s": 3600, "checkpoint_s": 0.5, "manifest_wait_s": 600, "hang_s": 700},
    )
    topics.ensure(settings)
    processor = Service("processor", settings)
    with running(processor):
        processor.wait_ready()
        before = processor.metric('layerwatch_records_total{operator="instances"}')
        send(settings, Recording(recording.name, [], recording.batches))
        time.sleep(2)  # for the timings to be there first; were they not, the test would only prove less
        assert alerts(settings, "late") == []
        send_manifests(settings, recording.manifests)
        wait_for_ends(settings, "late", expected)
        assert processor.metric('layerwatch_records_total{operator="instances"}') >= before + len(
            recording.batches
        )
    assert without_repeats(alerts(settings, "late")) == expected.alerts
    assert not any(letter.key == b"late-0" for letter in _dead_letters(settings, PROFILES).values())


def _of_another_engine(recording: Recording, engine: str) -> Recording:
    (manifest,) = recording.manifests
    batches: list[ProfileBatch] = [msgspec.structs.replace(b, engine=engine) for b in recording]
    return Recording(recording.name, [msgspec.structs.replace(manifest, engine=engine)], batches)
