"""The SQLite file of a service: opened, made if it is new, and refused if a newer layerwatch has written it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from layerwatch.schemas.errors import ConfigError

_BUSY_S = 10


def open_database(
    path: Path, what: str, *, version: int, tables: Iterable[str], synchronous: Literal["NORMAL", "FULL"]
) -> sqlite3.Connection:
    """A connection for one thread at a time, which opens its transactions itself (`transaction`).

    Args:
        what: is kept there, for messages ("the outbox").
        version: `PRAGMA user_version` of a database with these `tables`, whose statements set it.
        synchronous: whether a power cut may undo the last transactions (NORMAL) or nothing (FULL); a killed process never does.

    Raises ConfigError where the file cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found > version:
            raise ConfigError(
                f"{path} was written by a newer layerwatch (its version is {found}, this one reads {version}):"
                " install that layerwatch again, or set LAYERWATCH_STATE_DIR to another folder"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if found == 0:
            with transaction(db):
                for statement in tables:
                    db.execute(statement)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"{what} cannot be kept in {path} ({error}): mend or move that file,"
            " or set LAYERWATCH_STATE_DIR to another folder"
        ) from error
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what happens within, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
