"""Reads the history database. Each call opens a connection of its own, so any thread may ask."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from layerwatch.history.tables import Kind

_BUSY_S = 10

#: SQL with one question mark, and what stands for it.
Condition = tuple[str, str | int]
#: Where a page begins: after the id that was first seen at this moment (unix ms).
Cursor = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, newest first, as emitted; `next` is None on the last page."""

    items: list[str]
    next: Cursor | None


class Reader:
    """Questions to the database at `path`, which a Store has made."""

    def __init__(self, path: Path) -> None:
        self._uri = f"file:{quote(str(path.absolute()))}?mode=ro"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._uri, uri=True, timeout=_BUSY_S)
        try:
            yield db
        finally:
            db.close()

    def page(self, kind: Kind, conditions: Sequence[Condition], after: Cursor | None, limit: int) -> Page:
        """At most `limit` newest revisions that meet all conditions."""
        wheres = [sql for sql, _ in conditions]
        values: list[str | int] = [value for _, value in conditions]
        if after:
            wheres.append("(c.first_ms, c.id) < (?, ?)")
            values.extend(after)
        where = f"WHERE {' AND '.join(wheres)}" if wheres else ""
        with self._connect() as db:
            rows = db.execute(
                f"SELECT c.first_ms, c.id, r.json FROM {kind.current} AS c"
                f" CROSS JOIN {kind.revisions} AS r ON r.id = c.id AND r.revision = c.revision"
                f" {where} ORDER BY c.first_ms DESC, c.id DESC LIMIT ?",
                (*values, limit + 1),
            ).fetchall()
        more = len(rows) > limit
        rows = rows[:limit]
        return Page([json for _, _, json in rows], (rows[-1][0], rows[-1][1]) if more else None)

    def newest(self, kind: Kind, id: str) -> tuple[int, str] | None:
        """The highest revision of an id and its JSON."""
        with self._connect() as db:
            row: tuple[int, str] | None = db.execute(
                f"SELECT revision, json FROM {kind.revisions} WHERE id = ? ORDER BY revision DESC LIMIT 1",
                (id,),
            ).fetchone()
        return row

    def revisions(self, kind: Kind, id: str) -> list[str]:
        """All revisions of an id, oldest first; empty where the id is unknown."""
        with self._connect() as db:
            rows = db.execute(f"SELECT json FROM {kind.revisions} WHERE id = ? ORDER BY revision", (id,))
            return [json for (json,) in rows]
