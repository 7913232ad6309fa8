"""An operator at work: its states in memory, and the faust table that they are written to."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from layerwatch.hosting.faust_app import current_event
from layerwatch.hosting.operator import Operator
from layerwatch.hosting.positions import Partition, Taken


@dataclass(slots=True)
class Keyed:
    """A key's state, and the records folded in since it was last written."""

    state: Any
    partition: int
    records: list[Taken] = field(default_factory=list)
    dirty_since_s: float | None = None
    whole: bool = True  # whether all its parts are written, not only those that were due

    def changed(self) -> None:
        if self.dirty_since_s is None:
            self.dirty_since_s = time.monotonic()


class _Place(NamedTuple):
    """What faust's tables ask of a record's message: where it came from."""

    topic: str
    partition: int


class _Origin:
    """Stands in for the record on whose account a table changes."""

    def __init__(self, topic: str, partition: int) -> None:
        self.message = _Place(topic, partition)


@dataclass(slots=True)
class Lane:
    """`keys` are the states in memory; `refused` are records of which only a dead letter is left."""

    operator: Operator
    table: Any
    keys: dict[bytes, Keyed] = field(default_factory=dict)
    refused: list[Taken] = field(default_factory=list)
    caught_up: bool = False  # with what was there when the partitions were assigned

    def restored(self, key: bytes, partition: int) -> Keyed:
        """A key's state as it was written, or a new one. Raises InvalidRecord when it cannot be had."""
        found = ((part, self.table.get(_table_key(key, part))) for part in self.operator.parts)
        parts = {part: data for part, data in found if data is not None}
        return Keyed(self.operator.restore(key, parts), partition)

    def save(self, key: bytes, partition: int, parts: dict[str, bytes]) -> None:
        """Write parts of a state, the first one last: it says how far the state has come."""
        origin = _Origin(self.operator.source, partition)
        current_event.set(weakref.ref(origin))
        for part, data in reversed(parts.items()):
            self.table[_table_key(key, part)] = data
        current_event.set(None)

    def written_keys(self) -> set[bytes]:
        """Keys that the table has a state of."""
        stored: list[bytes] = list(self.table.keys())
        return {key.rpartition(b"\0")[0] for key in stored}

    def forget(self, partitions: set[Partition]) -> None:
        """Drop the states of partitions that another process owns now."""
        for key in [k for k, v in self.keys.items() if (self.operator.source, v.partition) in partitions]:
            del self.keys[key]


def _table_key(key: bytes, part: str) -> bytes:
    return key + b"\0" + part.encode()
