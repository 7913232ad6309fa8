"""The notifier's database: SQLite. What was read, what it means and what is to be sent change in one transaction.

So a process that is killed at any moment goes on where it was: no notice is lost, and none is made twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from layerwatch.hosting.database import open_database, transaction
from layerwatch.hosting.log_source import Position
from layerwatch.notify.incident import Notice, ServiceState

FILE_NAME = "notify.sqlite3"
#: `PRAGMA user_version` of a database with these tables.
VERSION = 1

#: Dead letters that are kept, the newest.
_DEAD_MOST = 1000
#: Incidents that are over are kept so long (s).
_ENDED_KEPT_S = 86_400.0

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_id TEXT NOT NULL,
  next_offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE states (service TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE incidents (id TEXT PRIMARY KEY, notice BLOB NOT NULL, ended_s REAL) WITHOUT ROWID;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, incident TEXT NOT NULL, notice_id TEXT NOT NULL,
  notice BLOB NOT NULL, queued_s REAL NOT NULL, rounds INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL DEFAULT 0,
  UNIQUE (lane, notice_id));
CREATE INDEX outbox_by_incident ON outbox (lane, incident, seq);
CREATE TABLE receipts (lane TEXT NOT NULL, incident TEXT NOT NULL, receipt TEXT NOT NULL, at_s REAL NOT NULL,
  PRIMARY KEY (lane, incident)) WITHOUT ROWID;
CREATE TABLE dead (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, notice_id TEXT NOT NULL, notice BLOB NOT NULL,
  why TEXT NOT NULL, at_s REAL NOT NULL);
PRAGMA user_version = 1
"""

_NOTICE = msgspec.json.Decoder(Notice)
_STATE = msgspec.json.Decoder(ServiceState)


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice that waits to be sent on a lane; `rounds` of tries have failed."""

    seq: int
    lane: str
    notice: Notice
    queued_s: float
    rounds: int


class Outbox:
    """May be used from any thread. Raises ConfigError where the file cannot be used. Times are unix seconds."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        # FULL: a page must not be sent twice because of a power cut.
        self._db = open_database(
            path,
            "the outbox",
            version=VERSION,
            tables=filter(str.strip, _TABLES.split(";")),
            synchronous="FULL",
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._db):
            yield

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def since_s(self, now_s: float) -> float:
        """When this outbox was first used: what was over before is not told."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('since_s', ?)", (now_s,))
            (value,) = self._db.execute("SELECT value FROM facts WHERE name = 'since_s'").fetchone()
        return float(value)

    def positions(self) -> dict[tuple[str, int], Position]:
        """How far each (topic, partition) was read."""
        rows = self._rows("SELECT topic, partition, topic_id, next_offset, timestamp_ms FROM positions")
        return {(str(topic), int(str(partition))): Position(*rest) for topic, partition, *rest in rows}  # type: ignore[arg-type]

    def states(self) -> dict[str, ServiceState]:
        """By service."""
        rows = self._rows("SELECT service, state FROM states")
        return {str(service): _STATE.decode(state) for service, state in rows}  # type: ignore[arg-type]

    def write(
        self,
        states: Mapping[str, ServiceState],
        letters: Iterable[tuple[Notice, Sequence[str]]],
        positions: Mapping[tuple[str, int], Position],
        now_s: float,
    ) -> None:
        """All of it or nothing. `letters` are notices with the lanes that they go to, in order."""
        with self._transaction():
            for service, state in states.items():
                self._db.execute(
                    "INSERT OR REPLACE INTO states VALUES (?, ?)", (service, msgspec.json.encode(state))
                )
            for notice, lanes in letters:
                self._queue(notice, lanes, now_s)
            for (topic, partition), at in positions.items():
                self._db.execute(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)",
                    (topic, partition, at.topic_id, at.next_offset, at.timestamp_ms),
                )

    def _queue(self, notice: Notice, lanes: Sequence[str], now_s: float) -> None:
        blob = msgspec.json.encode(notice)
        ended_s = notice.made_s if notice.event == "resolved" else None
        if lanes:
            self._db.execute(
                "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?)", (notice.incident, blob, ended_s)
            )
        for lane in lanes:
            self._db.execute(
                "INSERT OR IGNORE INTO outbox (lane, incident, notice_id, notice, queued_s) VALUES (?, ?, ?, ?, ?)",
                (lane, notice.incident, notice.id, blob, now_s),
            )
        self._db.execute("DELETE FROM incidents WHERE ended_s < ?", (now_s - _ENDED_KEPT_S,))

    def next_letter(self, lane: str, now_s: float) -> Letter | None:
        """The oldest that is due; of each incident only the first one that waits, so that they arrive in order."""
        rows = self._rows(
            "SELECT seq, notice, queued_s, rounds FROM outbox AS o WHERE lane = ? AND due_s <= ? AND seq ="
            " (SELECT min(seq) FROM outbox WHERE lane = o.lane AND incident = o.incident) ORDER BY seq LIMIT 1",
            lane,
            now_s,
        )
        for seq, notice, queued_s, rounds in rows:
            return Letter(seq, lane, _NOTICE.decode(notice), queued_s, rounds)  # type: ignore[arg-type]
        return None

    def sent(self, letter: Letter, receipt: str | None, now_s: float) -> None:
        """It has arrived. `receipt` is what later notices of the incident need on this lane."""
        with self._transaction():
            self._db.execute("DELETE FROM outbox WHERE seq = ?", (letter.seq,))
            if letter.notice.event == "resolved":
                self._db.execute(
                    "DELETE FROM receipts WHERE lane = ? AND incident = ?",
                    (letter.lane, letter.notice.incident),
                )
            elif receipt is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?)",
                    (letter.lane, letter.notice.incident, receipt, now_s),
                )

    def receipt(self, letter: Letter) -> str | None:
        rows = self._rows(
            "SELECT receipt FROM receipts WHERE lane = ? AND incident = ?",
            letter.lane,
            letter.notice.incident,
        )
        return str(rows[0][0]) if rows else None

    def postpone(self, letter: Letter, due_s: float) -> None:
        """Another round of tries has failed; others of the lane come first until `due_s`."""
        with self._transaction():
            self._db.execute(
                "UPDATE outbox SET rounds = rounds + 1, due_s = ? WHERE seq = ?", (due_s, letter.seq)
            )

    def bury(self, letter: Letter, why: str, now_s: float) -> None:
        """Nobody will ever take it: a dead letter."""
        with self._transaction():
            self._bury("seq = ?", (letter.seq,), why, now_s)

    def bury_strays(self, lanes: Iterable[str], why: str, now_s: float) -> int:
        """Those of lanes that are no longer there; how many they were."""
        kept = tuple(lanes)
        with self._transaction():
            return self._bury(f"lane NOT IN ({', '.join('?' * len(kept))})", kept, why, now_s)

    def _bury(self, condition: str, values: tuple[object, ...], why: str, now_s: float) -> int:
        buried = self._db.execute(
            "INSERT INTO dead (lane, notice_id, notice, why, at_s)"
            f" SELECT lane, notice_id, notice, ?, ? FROM outbox WHERE {condition}",
            (why, now_s, *values),
        ).rowcount
        self._db.execute(f"DELETE FROM outbox WHERE {condition}", values)
        self._db.execute("DELETE FROM dead WHERE seq <= (SELECT max(seq) FROM dead) - ?", (_DEAD_MOST,))
        return buried

    def current(self, ended_after_s: float) -> list[Notice]:
        """The last notice of each incident that people were told of, unless it ended before that."""
        rows = self._rows("SELECT notice FROM incidents WHERE ended_s IS NULL OR ended_s > ?", ended_after_s)
        return [_NOTICE.decode(notice) for (notice,) in rows]  # type: ignore[arg-type]

    def waiting(self) -> dict[str, tuple[int, float]]:
        """By lane: how many letters wait, and since when the oldest does."""
        rows = self._rows("SELECT lane, count(*), min(queued_s) FROM outbox GROUP BY lane")
        return {str(lane): (int(str(count)), float(str(oldest_s))) for lane, count, oldest_s in rows}

    def dead(self) -> dict[str, int]:
        """Dead letters by lane."""
        rows = self._rows("SELECT lane, count(*) FROM dead GROUP BY lane")
        return {str(lane): int(str(count)) for lane, count in rows}

    def close(self) -> None:
        with self._lock:
            self._db.close()
