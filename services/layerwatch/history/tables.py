"""The tables of the history database.

For each kind there is a log of revisions with the JSON as it was emitted, and one narrow row for each id with what
its newest revision can be filtered by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: `PRAGMA user_version` of a database with these tables.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """Alerts or decisions; `columns` are the texts that lists can be filtered by."""

    name: str
    columns: tuple[str, ...]

    @property
    def current(self) -> str:
        return f"{self.name}s"

    @property
    def revisions(self) -> str:
        return f"{self.name}_revisions"


#: `instances` and `causes` hold JSON arrays of texts.
ALERT = Kind("alert", ("service", "kind", "severity", "status", "instances", "causes"))
DECISION = Kind("decision", ("service", "target", "domain", "action", "mode", "status"))

_SHARED = """
CREATE TABLE positions (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_id TEXT NOT NULL,
  next_offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE refused (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL,
  reason TEXT NOT NULL, detail TEXT NOT NULL, value BLOB, PRIMARY KEY (topic, partition, offset, timestamp_ms));
"""


def definitions() -> Iterator[str]:
    """The statements that make an empty database ours."""
    yield from filter(str.strip, _SHARED.split(";"))
    for kind in (ALERT, DECISION):
        yield from _of(kind)
    yield f"PRAGMA user_version = {VERSION}"


def _of(kind: Kind) -> Iterator[str]:
    columns = ", ".join(f"{column} TEXT NOT NULL" for column in kind.columns)
    yield (
        f"CREATE TABLE {kind.revisions} (id TEXT NOT NULL, revision INTEGER NOT NULL, json TEXT NOT NULL,"
        " PRIMARY KEY (id, revision))"
    )
    # Lists are ordered by first_ms, which a later revision never moves: a page never skips or repeats an id.
    yield (
        f"CREATE TABLE {kind.current} (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, moment_ms INTEGER NOT NULL,"
        f" first_ms INTEGER NOT NULL, {columns}) WITHOUT ROWID"
    )
    yield f"CREATE INDEX {kind.current}_by_time ON {kind.current} (first_ms, id)"
    yield f"CREATE INDEX {kind.current}_by_service ON {kind.current} (service, first_ms, id)"
