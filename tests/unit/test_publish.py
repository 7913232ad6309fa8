"""Publishing a recording: order, pace, boots, farewells, and errors that are not swallowed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from kafka.errors import KafkaTimeoutError

from layerwatch.recording.npz import read_npz
from layerwatch.recording.outbox import IN_FLIGHT
from layerwatch.recording.pace import Pace
from layerwatch.recording.publish import publish
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import manifest_key
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import ENGINES, PROFILES

MAX = float("inf")


@dataclass
class FakeSent:
    """A record on its way; `get` acknowledges it."""

    producer: FakeProducer
    number: int

    def get(self, timeout: float | None = None) -> object:
        if self.number == self.producer.fails_at:
            raise KafkaTimeoutError("lost")
        self.producer.acknowledged += 1
        return None


@dataclass
class FakeProducer:
    fails_at: int | None = None
    log: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    flushed_at: list[int] = field(default_factory=list)
    acknowledged: int = 0
    most_on_the_way: int = 0

    def send(self, topic: str, value: bytes, key: bytes) -> FakeSent:
        self.log.append((topic, key, value))
        self.most_on_the_way = max(self.most_on_the_way, len(self.log) - self.acknowledged)
        return FakeSent(self, len(self.log) - 1)

    def flush(self, timeout: float | None = None) -> None:
        self.flushed_at.append(len(self.log))

    @property
    def batches(self) -> list[ProfileBatch]:
        return [Reader(ProfileBatch).decode(value) for topic, _, value in self.log if topic == PROFILES]


@pytest.fixture(scope="module")
def rebuild() -> Recording:
    return read_npz(Path(__file__).parents[1] / "data" / "rebuild-h200.npz")


def after(calls: int) -> Callable[[], bool]:
    """A request to stop that comes after so many questions."""
    counter = itertools.count()
    return lambda: next(counter) >= calls


def test_manifests_are_settled_before_the_first_message(rebuild: Recording) -> None:
    producer = FakeProducer()
    publish(rebuild, producer, MAX, boot_ms=7)
    topics = [topic for topic, _, _ in producer.log]
    assert topics == [ENGINES] * 3 + [PROFILES] * len(rebuild.batches)
    assert producer.flushed_at[0] == 3
    assert [key.decode() for _, key, _ in producer.log[:3]] == [manifest_key(m) for m in rebuild.manifests]
    assert {key for _, key, _ in producer.log[3:]} == {b"rebuild-h200-0"}


def test_messages_are_the_recorded_ones_under_a_new_boot(rebuild: Recording) -> None:
    producer = FakeProducer()
    published = publish(rebuild, producer, MAX, boot_ms=7)
    assert producer.batches == [msgspec.structs.replace(batch, boot_ms=7) for batch in rebuild]
    assert (published.messages, published.executions) == (len(rebuild.batches), rebuild.executions)
    assert not published.interrupted


def test_a_recorded_restart_stays_one_and_instances_do_not_share_boots(rebuild: Recording) -> None:
    first, second = rebuild.batches[:2]
    batches = [
        msgspec.structs.replace(first, boot_ms=100),
        msgspec.structs.replace(first, boot_ms=100, instance="other"),
        msgspec.structs.replace(second, boot_ms=900),
        msgspec.structs.replace(second, boot_ms=100),
    ]
    producer = FakeProducer()
    publish(Recording("r", [], batches), producer, MAX, boot_ms=7)
    assert [batch.boot_ms for batch in producer.batches] == [7, 7, 8, 7]


def test_what_is_on_the_way_is_bounded_and_all_of_it_awaited(rebuild: Recording) -> None:
    many = Recording("r", [], rebuild.batches * 5)
    producer = FakeProducer()
    publish(many, producer, MAX, boot_ms=7)
    assert len(many.batches) > IN_FLIGHT
    assert producer.most_on_the_way == IN_FLIGHT
    assert producer.acknowledged == len(many.batches)


@pytest.mark.parametrize("number", [0, 3, 50, -1])
def test_a_record_that_does_not_arrive_is_an_error_with_a_remedy(rebuild: Recording, number: int) -> None:
    total = len(rebuild.manifests) + len(rebuild.batches)
    with pytest.raises(Unavailable, match="layerwatch topics"):
        publish(rebuild, FakeProducer(fails_at=number % total), MAX, boot_ms=7)


def test_an_interruption_lets_every_instance_that_began_say_goodbye(rebuild: Recording) -> None:
    batches = [
        msgspec.structs.replace(batch, instance=instance)
        for batch in rebuild.batches[:4]
        for instance in ("a", "b")
    ]
    gone = msgspec.structs.replace(batches[0], instance="gone", state="leaving")
    producer = FakeProducer()
    published = publish(Recording("r", [], [gone, *batches]), producer, MAX, boot_ms=7, stop=after(6))
    assert published.interrupted
    *sent, a, b = producer.batches
    assert len(sent) == published.messages == 6
    for farewell in (a, b):
        last = next(batch for batch in reversed(sent) if batch.instance == farewell.instance)
        assert farewell.state == "leaving"
        assert (farewell.boot_ms, farewell.sequence) == (7, last.sequence + 1)
        assert farewell.window_start_s == farewell.window_end_s == last.window_end_s
        assert not farewell.end_to_end_ms
    assert {a.instance, b.instance} == {"a", "b"}


def test_a_stop_before_the_first_message_sends_none(rebuild: Recording) -> None:
    producer = FakeProducer()
    published = publish(rebuild, producer, MAX, boot_ms=7, stop=lambda: True)
    assert (published.messages, producer.batches) == (0, [])


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.1
        self.now_s += seconds


@pytest.mark.parametrize(("speed", "expected_s"), [(1.0, 20.0), (4.0, 5.0), (0.5, 40.0), (MAX, 0.0)])
def test_event_time_passes_at_the_speed(speed: float, expected_s: float) -> None:
    clock = FakeClock()
    pace = Pace(speed, 1000.0, clock, clock.sleep)
    assert all(pace.wait(1000.0 + second, lambda: False) for second in range(21))
    assert clock.now_s - 50 == pytest.approx(expected_s, abs=1e-6)


def test_what_is_late_is_sent_at_once() -> None:
    clock = FakeClock()
    pace = Pace(1.0, 0.0, clock, clock.sleep)
    pace.wait(0.0, lambda: False)
    clock.now_s += 30
    pace.wait(10.0, lambda: False)
    assert clock.now_s == 80


def test_a_stop_is_heard_within_a_long_silence() -> None:
    clock = FakeClock()
    pace = Pace(1.0, 0.0, clock, clock.sleep)
    assert not pace.wait(1e6, after(3))
    assert clock.now_s < 51
