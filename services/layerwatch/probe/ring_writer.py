"""A thread's ring, mapped and written. Format: `layerwatch.schemas.ring`."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from layerwatch.schemas.ring import (
    CAPACITY,
    COUNTERS,
    COUNTERS_OFFSET,
    HEADER_BYTES,
    RECORD_BYTES,
    WRITTEN_OFFSET,
    RingHeader,
    encode_header,
    ring_bytes,
)
from layerwatch.schemas.runtimes import ring_name

if TYPE_CHECKING:
    from layerwatch.probe.usual import Run

_BODY = struct.Struct("<QQQQHHII68sQI")
_CHECKSUM = struct.Struct("<I")
_COUNTER = {name: COUNTERS_OFFSET // 8 + place for place, name in enumerate(COUNTERS)}
_WRITTEN = WRITTEN_OFFSET // 8


def map_whole(path: Path, data: bytes, size: int) -> mmap.mmap:
    """A new file of `size` bytes that begins with `data`, mapped; raises OSError where its blocks cannot be had.

    They are reserved first: a store into a hole of a file on a full disk would kill the process (SIGBUS).
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o664)
    try:
        os.posix_fallocate(fd, 0, size)
        mapped = mmap.mmap(fd, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    mapped[: len(data)] = data
    return mapped


class RingWriter:
    """Written by one thread at a time. Raises OSError where the file cannot be made."""

    def __init__(self, folder: Path, number: int, token: bytes, capacity: int = CAPACITY) -> None:
        self.number = number
        header = encode_header(RingHeader(capacity, number, threading.get_native_id(), token))
        self.map = map_whole(folder / ring_name(number), header, ring_bytes(capacity))
        self._words = memoryview(self.map).cast("Q")
        self._mask = capacity - 1

    @property
    def position(self) -> int:
        """Of the next record."""
        return self._words[_WRITTEN]

    def write(self, run: Run, end_unix_ns: int, end_to_end_ns: int, host_ns: int) -> None:
        """Write an execution down that has run."""
        position = self.position
        look = run.look
        body = _BODY.pack(
            position,
            end_unix_ns,
            end_to_end_ns,
            host_ns,
            look.profile,
            run.flags,
            look.number,
            run.since_change,
            look.shape.packed,
            run.request_id,
            0,
        )
        start = HEADER_BYTES + (position & self._mask) * RECORD_BYTES
        # One copy, since struct.pack_into clears the place first, and a reader would see the zeros.
        self.map[start : start + RECORD_BYTES] = body + _CHECKSUM.pack(zlib.crc32(body))
        self._words[_WRITTEN] = position + 1

    def detach(self) -> None:
        """Write into memory of our own from now on."""
        self.map = mmap.mmap(-1, len(self.map))
        self._words = memoryview(self.map).cast("Q")

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of `COUNTERS`."""
        place = _COUNTER[name]
        self._words[place] += more

    def counters(self) -> dict[str, int]:
        return {name: self._words[place] for name, place in _COUNTER.items()}
