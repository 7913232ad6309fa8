"""The ingest thread over topics held in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from history_records import alert_json, decision_json

from layerwatch.history.ingest import Ingest
from layerwatch.history.metrics import Metrics
from layerwatch.history.progress import STUCK_S, Progress
from layerwatch.history.reader import Reader
from layerwatch.history.store import Store
from layerwatch.history.tables import ALERT, DECISION
from layerwatch.hosting.log_reading import Source
from layerwatch.hosting.log_source import Positions, RawRecord
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.topics import ALERTS, DECISIONS


def record(topic: str, offset: int, value: bytes | None) -> RawRecord:
    return RawRecord(topic, "id-of-topic", 0, offset, 1_000 + offset, value)


RECORDS = [
    record(ALERTS, 0, alert_json(revision=1)),
    record(ALERTS, 1, b"not an alert"),
    record(ALERTS, 2, None),
    record(ALERTS, 3, alert_json(revision=2)),
    record(ALERTS, 4, alert_json(schema="layerwatch.alert/9")),
    record(DECISIONS, 0, decision_json()),
]


class Memory:
    """A source that gives one record a poll, then says that it is at the end."""

    def __init__(self, records: Sequence[RawRecord], at_end: threading.Event) -> None:
        self.records = list(records)
        self._at_end = at_end

    def poll(self) -> Sequence[RawRecord]:
        if not self.records:
            self._at_end.set()
        return [self.records.pop(0)] if self.records else []

    def waiting(self) -> int:
        return len(self.records)

    def caught_up(self) -> bool:
        return not self.records

    def close(self) -> None:
        self.records.clear()


class Bench:
    """An ingest thread with all that it needs."""

    def __init__(self, path: Path) -> None:
        self.path, self.metrics, self.progress = path, Metrics(), Progress()
        self.at_end, self.ended = threading.Event(), threading.Event()
        self.connections: list[Positions] = []
        self.ingest = Ingest(Store(path), self.connect, self.progress, self.metrics, self.ended.set)

    def connect(self, positions: Positions) -> Source:
        self.connections.append(positions)
        if len(self.connections) == 1:
            raise Unavailable("nobody there yet")
        return Memory(RECORDS, self.at_end)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def test_after_a_source_that_was_absent_all_is_stored_and_bad_records_cost_themselves(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "db")
    bench.ingest.start()
    assert bench.at_end.wait(60)
    bench.ingest.stop(60)
    assert bench.ended.is_set()
    assert bench.progress.ready
    reader = Reader(bench.path)
    assert len(reader.revisions(ALERT, "a")) == 2
    assert len(reader.revisions(DECISION, "d")) == 1
    assert Store(bench.path).positions()[ALERTS, 0].next_offset == 5
    assert bench.value("layerwatch_history_rows_total", kind="alert") == 2
    assert bench.value("layerwatch_history_refused_total", reason="malformed") == 2
    assert bench.value("layerwatch_history_refused_total", reason="unsupported_version") == 1
    assert bench.value("layerwatch_history_lag_records") == 0


def test_a_restarted_process_knows_how_far_it_is_before_anything_new_comes(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "db")
    bench.ingest.start()
    assert bench.at_end.wait(60)
    bench.ingest.stop(60)
    assert Bench(tmp_path / "db").value("layerwatch_history_position_timestamp_seconds") == 1.004


def test_refused_records_are_kept_with_their_bytes_and_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "db")
    bench.ingest.start()
    assert bench.at_end.wait(60)
    bench.ingest.stop(60)
    kept = sqlite3.connect(bench.path).execute("SELECT offset, reason, value FROM refused").fetchall()
    assert kept[:2] == [(1, "malformed", b"not an alert"), (2, "malformed", None)]
    assert kept[2][:2] == (4, "unsupported_version")


def test_an_unexpected_failure_ends_the_thread_and_is_told(tmp_path: Path) -> None:
    def connect(_: Positions) -> Source:
        raise RuntimeError("a bug")

    ended = threading.Event()
    ingest = Ingest(Store(tmp_path / "db"), connect, Progress(), Metrics(), ended.set)
    ingest.start()
    assert ended.wait(60)
    assert isinstance(ingest.failure, RuntimeError)


def test_without_progress_for_a_minute_the_process_is_not_well() -> None:
    now_s = 0.0
    progress = Progress(clock=lambda: now_s)
    progress.moved(waiting=3)
    now_s = STUCK_S - 1
    assert progress.problem() is None
    now_s = STUCK_S
    assert "3 records" in (progress.problem() or "")
    progress.moved(waiting=2)
    assert progress.problem() is None
