"""How far each partition has been taken up, and how far it is done: what may be acknowledged to Kafka.

Every record is taken up once, in the order of its partition, whatever the way to us repeats, drops or mixes up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Partition(NamedTuple):
    topic: str
    number: int


@dataclass(slots=True, eq=False)
class Taken:
    """A record that was taken up; `done` once nothing of it can be lost any more."""

    partition: Partition
    offset: int
    done: bool = False


@dataclass(slots=True)
class _Progress:
    next: int  # offset to be taken up
    committable: int  # all before it is done
    taken: deque[Taken] = field(default_factory=deque)  # and not known to be done, in order
    empty: dict[int, int] = field(
        default_factory=dict
    )  # offsets that Kafka holds nothing at: first -> one after the last


class Positions:
    """Of the partitions that this process owns. For one thread."""

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Progress] = {}
        self._holes: dict[Partition, int] = {}

    def begin(self, partition: Partition, offset: int) -> None:
        """Reading starts at this offset; what was taken up before is of no account."""
        self._partitions[partition] = _Progress(next=offset, committable=offset)
        self._holes.pop(partition, None)

    def end(self, partitions: Iterable[Partition]) -> None:
        """Another process owns them now."""
        for partition in partitions:
            self._partitions.pop(partition, None)
            self._holes.pop(partition, None)

    def skip(self, partition: Partition, first: int, after: int) -> None:
        """Kafka itself holds nothing from offset `first` to before `after`: deleted, or marks of transactions."""
        if progress := self._partitions.get(partition):
            progress.empty[first] = after
            self._cross(progress)

    def take(self, partition: Partition, offset: int) -> Taken | None:
        """None for a record that is not the next one: taken up before, of another owner, or with some missing before it."""
        progress = self._partitions.get(partition)
        if progress is None or offset < progress.next:
            return None
        if offset > progress.next:
            self._holes[partition] = progress.next
            return None
        taken = Taken(partition, offset)
        progress.taken.append(taken)
        progress.next += 1
        self._cross(progress)
        return taken

    def finish(self, records: Iterable[Taken]) -> None:
        """Nothing of these can be lost any more."""
        touched = set()
        for record in records:
            record.done = True
            touched.add(record.partition)
        for partition in touched:
            if progress := self._partitions.get(partition):
                while progress.taken and progress.taken[0].done:
                    progress.committable = progress.taken.popleft().offset + 1
                self._settle(progress)

    def busy(self) -> bool:
        """Whether a record was taken up and is not done."""
        return any(progress.taken for progress in self._partitions.values())

    def owned(self) -> list[Partition]:
        return list(self._partitions)

    def next(self, partition: Partition) -> int | None:
        """Offset to be taken up next."""
        progress = self._partitions.get(partition)
        return progress.next if progress else None

    def committable(self, partition: Partition) -> int | None:
        """Offset to acknowledge: all before it is done."""
        progress = self._partitions.get(partition)
        return progress.committable if progress else None

    def pop_holes(self) -> dict[Partition, int]:
        """Where reading must start again, since records came without those before them."""
        holes, self._holes = self._holes, {}
        return {partition: offset for partition, offset in holes.items() if self.next(partition) == offset}

    def _cross(self, progress: _Progress) -> None:
        while progress.next in progress.empty:
            progress.next = progress.empty.pop(progress.next)
        self._settle(progress)

    def _settle(self, progress: _Progress) -> None:
        if not progress.taken:
            progress.committable = progress.next
