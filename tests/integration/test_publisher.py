"""The publisher: whatever happens to Kafka, offering costs nothing and every record is accounted for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from brokers import free_port, make_settings
from waiting import wait_until

from layerwatch.agent.publisher import Publisher
from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.kafka import consumer
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.topics import PROFILES

pytestmark = pytest.mark.kafka

#: An offer takes microseconds; a pause of the machine itself may take this long, in s.
LONGEST_OFFER_S = 1.0
RING_BYTES, FLYING_BYTES, VALUE_BYTES = 4 << 20, 1 << 20, 16_000


def _publisher(settings: Settings) -> Publisher:
    return Publisher(settings, ring_bytes=RING_BYTES, flying_bytes=FLYING_BYTES)


def _offer(publisher: Publisher, first: int, count: int, pause_s: float = 0.0) -> float:
    """Offer numbered records; the longest offer in s."""
    longest_s = 0.0
    for number in range(first, first + count):
        began_s = time.perf_counter()
        publisher.offer(PROFILES, b"instance", b"%08d" % number + bytes(VALUE_BYTES))
        longest_s = max(longest_s, time.perf_counter() - began_s)
        time.sleep(pause_s)
    return longest_s


def _read(settings: Settings, count: int) -> list[int]:
    """The numbers in the topic, at least `count` of them."""
    reader = consumer(settings, PROFILES)
    numbers: list[int] = []

    def poll() -> bool:
        for records in reader.poll(200).values():
            numbers.extend(int((record.value or b"")[:8]) for record in records)
        return len(numbers) >= count

    try:
        wait_until(poll, f"{count} records")
    finally:
        reader.close()
    return numbers


def test_a_crash_of_the_broker_loses_nothing_that_was_sent_and_drops_the_oldest(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(own_broker, tmp_path)
    topics.ensure(settings)
    publisher = _publisher(settings)
    longest_s = _offer(publisher, 0, 100, pause_s=0.005)
    wait_until(lambda: publisher.acked == 100, "the first 100")

    own_broker.kill()
    longest_s = max(longest_s, _offer(publisher, 100, 900, pause_s=0.005))
    in_flight = publisher.sent - publisher.acked
    waiting = publisher.offered - publisher.sent - publisher.dropped
    assert in_flight * VALUE_BYTES < FLYING_BYTES + 2 * VALUE_BYTES
    assert waiting * VALUE_BYTES < RING_BYTES
    assert publisher.dropped == 900 - in_flight - waiting > 0

    own_broker.start()
    wait_until(lambda: publisher.acked + publisher.dropped == publisher.offered, "all acknowledged")
    publisher.close()
    assert longest_s < LONGEST_OFFER_S
    assert publisher.failed == 0
    assert publisher.acked == publisher.sent
    numbers = _read(settings, publisher.acked)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == publisher.acked
    assert numbers[-1] == 999


def test_a_publisher_may_be_there_before_the_broker_and_the_topics(
    tmp_path: Path, own_broker: LocalBroker
) -> None:
    settings = make_settings(own_broker, tmp_path)
    own_broker.stop()
    publisher = _publisher(settings)
    assert _offer(publisher, 0, 20) < LONGEST_OFFER_S
    assert publisher.sent == 0
    own_broker.start()
    time.sleep(1)  # time to find out that the topic is missing; all that follows holds without it as well
    topics.ensure(settings)
    wait_until(lambda: publisher.acked == 20, "all 20")
    publisher.close()
    assert (publisher.failed, publisher.dropped) == (0, 0)
    assert _read(settings, 20) == list(range(20))


def test_closing_without_a_broker_is_quick_and_counts_what_is_lost(tmp_path: Path) -> None:
    settings = make_settings(LocalBroker(tmp_path, tmp_path, free_port()), tmp_path)
    publisher = _publisher(settings)
    _offer(publisher, 0, 10)
    publisher.close(timeout_s=0.1)
    publisher.offer(PROFILES, b"late", b"")
    assert (publisher.offered, publisher.dropped, publisher.acked) == (11, 11, 0)


def test_closing_during_an_outage_accounts_for_every_record(own_broker: LocalBroker, tmp_path: Path) -> None:
    settings = make_settings(own_broker, tmp_path)
    topics.ensure(settings)
    publisher = _publisher(settings)
    _offer(publisher, 0, 10)
    wait_until(lambda: publisher.acked == 10, "the first 10")
    own_broker.kill()
    _offer(publisher, 10, 200)
    publisher.close(timeout_s=0.5)
    assert publisher.acked == 10
    assert publisher.failed > 0
    assert publisher.offered == publisher.acked + publisher.failed + publisher.dropped


def test_a_record_that_kafka_refuses_costs_itself_alone(settings: Settings) -> None:
    publisher = _publisher(settings)
    publisher.offer(PROFILES, b"instance", bytes(2_000_000))
    publisher.offer(PROFILES, b"instance", b"small")
    wait_until(lambda: publisher.acked + publisher.failed == 2, "both")
    publisher.close()
    assert (publisher.failed, publisher.acked, publisher.dropped) == (1, 1, 0)
