"""The history database: SQLite, one writer. Rows and the position up to which they were read change together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from layerwatch.history.rows import Revision
from layerwatch.history.tables import VERSION, Kind, definitions
from layerwatch.hosting.database import open_database, transaction
from layerwatch.hosting.log_source import Position

FILE_NAME = "history.sqlite3"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that could not be read, kept as it came."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    value: bytes | None


@dataclass(slots=True)
class Batch:
    """What is written in one transaction."""

    revisions: list[Revision] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    positions: dict[tuple[str, int], Position] = field(default_factory=dict)


@dataclass(slots=True)
class Written:
    """Revisions by kind: those that were new, and those that were there already."""

    rows: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)


class Store:
    """The writer. Raises ConfigError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        # Opened by one thread and then used by one other: never by two at a time. NORMAL: what a power cut undoes is read again.
        self._db = open_database(
            path, "the history", version=VERSION, tables=definitions(), synchronous="NORMAL"
        )

    def positions(self) -> dict[tuple[str, int], Position]:
        """How far each (topic, partition) was read."""
        rows = self._db.execute("SELECT topic, partition, topic_id, next_offset, timestamp_ms FROM positions")
        return {(topic, partition): Position(*rest) for topic, partition, *rest in rows}

    def write(self, batch: Batch) -> Written:
        """All of the batch or nothing of it; a revision that is there already is left as it is."""
        written = Written()
        with transaction(self._db):
            for revision in batch.revisions:
                counter = written.rows if self._add(revision) else written.repeated
                counter[revision.kind.name] += 1
            for refused in batch.refused:
                self._refuse(refused)
            for (topic, partition), position in batch.positions.items():
                self._move(topic, partition, position)
        return written

    def _add(self, row: Revision) -> bool:
        added = self._db.execute(
            f"INSERT OR IGNORE INTO {row.kind.revisions} VALUES (?, ?, ?)", (row.id, row.revision, row.json)
        )
        if not added.rowcount:
            return False
        self._db.execute(_upsert(row.kind), (row.id, row.revision, row.moment_ms, row.moment_ms, *row.fields))
        return True

    def _refuse(self, row: Refused) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.topic, row.partition, row.offset, row.timestamp_ms, row.reason, row.detail, row.value),
        )

    def _move(self, topic: str, partition: int, position: Position) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO positions (topic, partition, topic_id, next_offset, timestamp_ms)"
            " VALUES (?, ?, ?, ?, ?)",
            (topic, partition, position.topic_id, position.next_offset, position.timestamp_ms),
        )

    def close(self) -> None:
        self._db.close()


def _upsert(kind: Kind) -> str:
    """Keeps the newest revision's columns and the earliest moment, in whatever order revisions come."""
    columns = ("revision", "moment_ms", *kind.columns)
    newest = ", ".join(
        f"{column} = iif(excluded.revision > {kind.current}.revision, excluded.{column}, {kind.current}.{column})"
        for column in columns
    )
    return (
        f"INSERT INTO {kind.current} (id, revision, moment_ms, first_ms, {', '.join(kind.columns)})"
        f" VALUES ({', '.join('?' * (4 + len(kind.columns)))}) ON CONFLICT (id) DO UPDATE SET {newest},"
        f" first_ms = min(excluded.first_ms, {kind.current}.first_ms)"
    )
