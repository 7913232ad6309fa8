"""One ring of a runtime, read with `pread`: a file cut short under a mapping would kill the agent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.ring import (
    HEADER_BYTES,
    RECORD_BYTES,
    TAKEN_OFFSET,
    WRITTEN_OFFSET,
    KeyedExecution,
    decode_counters,
    decode_header,
    decode_u64,
    encode_u64,
    iter_executions,
)

#: Records that are read at a time: 1 MiB.
_BATCH = 8192


class Read(NamedTuple):
    """What a poll found. `more` says that there was more than is read at a time."""

    executions: list[KeyedExecution]
    more: bool


class RingReader:
    """Goes on where the last agent ended. Raises OSError and InvalidRecord where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.lost = self.torn = 0  # records, since the ring was made as far as is known
        self.counters: dict[str, int] = {}
        self._may_write = True
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            self._may_write = False
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(self._fd, HEADER_BYTES, 0)
            header = decode_header(head, os.fstat(self._fd).st_size)
        except BaseException:
            self.close()
            raise
        self.number = header.number
        self._capacity = header.capacity
        self._next = decode_u64(head, TAKEN_OFFSET)
        self._waited_for = -1

    def poll(self) -> Read:
        """The records since the last poll, oldest first, without those that were overwritten meanwhile.

        Raises OSError and InvalidRecord (truncated).
        """
        head = self._pread(HEADER_BYTES, 0)
        self.counters = decode_counters(head)
        written = decode_u64(head, WRITTEN_OFFSET)
        self._skip_to(written - self._capacity)
        first, last = self._next, min(written, self._next + _BATCH)
        if last <= first:
            return Read([], False)
        block = self._read(first, last)
        # a slot may be overwritten from the moment at which the one before it was
        overwritten = decode_u64(self._pread(8, WRITTEN_OFFSET)) + 1 - self._capacity
        found: list[KeyedExecution] = []
        for position, record in enumerate(iter_executions(block), first):
            if record is not None and record.position == position:
                found.append(record)
            elif position < overwritten:
                self.lost += 1
            elif self._waited_for < position:
                self._waited_for, last = position, position  # not there yet, on another core: once more
                break
            else:
                self.torn += 1
        self._next = last
        return Read(found, last < written and self._waited_for < last)

    def commit(self) -> None:
        """What was read has been passed on: another agent need not read it again."""
        if self._may_write:
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, encode_u64(self._next), TAKEN_OFFSET)

    def close(self) -> None:
        os.close(self._fd)

    def _skip_to(self, oldest: int) -> None:
        if oldest > self._next:
            self.lost += oldest - self._next
            self._next = oldest

    def _read(self, first: int, last: int) -> bytes:
        """Records [first, last): one piece, or two where the ring wraps."""
        begin, end = first % self._capacity, (last - 1) % self._capacity + 1
        pieces = [(begin, end)] if begin < end else [(begin, self._capacity), (0, end)]
        return b"".join(
            self._pread((stop - start) * RECORD_BYTES, HEADER_BYTES + start * RECORD_BYTES)
            for start, stop in pieces
        )

    def _pread(self, count: int, offset: int) -> bytes:
        data = os.pread(self._fd, count, offset)
        if len(data) < count:
            raise InvalidRecord("truncated", f"{len(data)} bytes at {offset} where {count} must be")
        return data
