"""Recording the topics: limits, late manifests, what cannot be decoded."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layerwatch.recording.capture import capture
from layerwatch.recording.npz import read_npz
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import encode
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.profiles import ProfileBatch


@dataclass
class FakeSource:
    """`manifests` are those at the first and at the second look; polls are empty when the messages are out."""

    messages: list[bytes | None]
    manifests: list[list[bytes | None]]
    each_poll: int = 3

    def engines(self) -> list[bytes | None]:
        if not self.manifests:
            raise Unavailable("Kafka has gone")
        return self.manifests.pop(0)

    def start(self) -> None:
        """Nothing to do."""

    def profiles(self) -> list[bytes | None]:
        polled, self.messages = self.messages[: self.each_poll], self.messages[self.each_poll :]
        return polled


@dataclass
class Recorded:
    manifests: list[Manifest] = field(default_factory=list)
    batches: list[ProfileBatch] = field(default_factory=list)

    def manifest(self, manifest: Manifest) -> None:
        self.manifests.append(manifest)

    def batch(self, batch: ProfileBatch) -> None:
        self.batches.append(batch)


@pytest.fixture(scope="module")
def rebuild() -> Recording:
    return read_npz(Path(__file__).parents[1] / "data" / "rebuild-h200.npz")


def encoded(recording: Recording) -> list[bytes | None]:
    return [encode(batch) for batch in recording]


def test_it_stops_at_the_message_that_completes_the_executions(rebuild: Recording) -> None:
    recorded = Recorded()
    captured = capture(FakeSource(encoded(rebuild), [[], []]), recorded, executions=200)
    assert recorded.batches == rebuild.batches[: captured.messages]
    assert captured.executions >= 200 > captured.executions - len(recorded.batches[-1].end_to_end_ms) // 4


def test_it_stops_when_its_time_is_over(rebuild: Recording) -> None:
    seconds = itertools.count()
    recorded = Recorded()
    source = FakeSource(encoded(rebuild), [[], []], each_poll=1)
    capture(source, recorded, duration_s=10, clock=lambda: next(seconds))
    assert recorded.batches == rebuild.batches[:9]


def test_it_stops_when_told(rebuild: Recording) -> None:
    asked = itertools.count()
    recorded = Recorded()
    capture(FakeSource(encoded(rebuild), [[], []]), recorded, stop=lambda: next(asked) >= 4)
    assert recorded.batches == rebuild.batches[:12]


def test_manifests_that_come_while_recording_are_kept_and_those_of_others_are_not(rebuild: Recording) -> None:
    early, late, last = (encode(manifest) for manifest in rebuild.manifests)
    other = encode(Manifest(engine="other"))
    recorded = Recorded()
    source = FakeSource(encoded(rebuild), [[early, other, None], [early, late, last]])
    captured = capture(source, recorded, executions=rebuild.executions)
    assert {m.engine for m in recorded.manifests} == {m.engine for m in rebuild.manifests}
    assert captured.described == captured.engines


def test_messages_of_builds_that_nobody_described_are_kept(rebuild: Recording) -> None:
    recorded = Recorded()
    captured = capture(FakeSource(encoded(rebuild), [[], []]), recorded, executions=rebuild.executions)
    assert sum(len(batch.end_to_end_ms) // 4 for batch in recorded.batches) == rebuild.executions
    assert (captured.described, len(captured.engines)) == (set(), 3)


def test_a_kafka_that_goes_at_the_end_costs_no_message(rebuild: Recording) -> None:
    recorded = Recorded()
    first_look = [encode(manifest) for manifest in rebuild.manifests]
    captured = capture(
        FakeSource(encoded(rebuild), [list(first_look)]), recorded, executions=rebuild.executions
    )
    assert captured.executions == rebuild.executions
    assert len(recorded.manifests) == 3


def test_what_cannot_be_decoded_costs_itself_alone_and_is_told_once(
    rebuild: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    messages = encoded(rebuild)
    recorded = Recorded()
    source = FakeSource([b"garbage", messages[0], None, b"", messages[1]], [[b"\xc1"], []])
    captured = capture(
        source, recorded, executions=sum(len(b.end_to_end_ms) // 4 for b in rebuild.batches[:2])
    )
    assert recorded.batches == rebuild.batches[:2]
    assert captured.undecodable == 4
    assert len(caplog.records) == 1
