"""The ring file: every execution that one thread of a runtime ended, newest over oldest. Format 1.

A file `ring-NNN` in a runtime's folder (see `runtimes`), mapped by the one thread that writes it and read by the agent
with `pread`. All numbers are little-endian. A writer reserves the blocks of the whole file before it maps it
(`posix_fallocate`): on a full disk a store into a hole would end the process. Nobody ever shortens the file.

Header, 4096 bytes; what is not named is zero:

| offset | type | what | written by |
|---|---|---|---|
| 0 | 8 bytes | `LWRING\\r\\n` | writer, once |
| 8 | u16 | major version, 1: another one is refused | writer, once |
| 10 | u16 | minor version, 0: a higher one is read like 0 | writer, once |
| 12 | u32 | bytes of this header, 4096 | writer, once |
| 16 | u32 | bytes of a record, 128 | writer, once |
| 20 | u32 | records that the ring holds: a power of two | writer, once |
| 24 | u32 | number of this ring in its runtime, from 0 | writer, once |
| 28 | u32 | the writing thread's id in the operating system; only for people | writer |
| 32 | 16 bytes | token of the runtime | writer, once |
| 64 | u64 | written: records written since the ring was made | writer |
| 128 | u64[32] | counters, in the order of `COUNTERS` | writer |
| 512 | u64 | taken: records below this position are with the agent | agent |

Record, 128 bytes, at 4096 + 128 * (position mod capacity):

| offset | type | what |
|---|---|---|
| 0 | u64 | position: 0 for the first record of the ring, then 1, ... |
| 8 | u64 | unix time in ns at which the execution ended, or was found to have ended |
| 16 | u64 | end to end, ns |
| 24 | u64 | the host's part of it, ns; 2**64 - 1: not known |
| 32 | u16 | optimization profile |
| 34 | u16 | flags: bits 0..2 as in `profiles` (switched profile, on the twin, in a graph), bit 8 `SAMPLED` |
| 36 | u32 | number of the execution context within the runtime |
| 40 | u32 | executions of this context since its shape or profile changed; 0 for the first one with this shape |
| 44 | u8 | how many of the dimensions below count, 0..16; then three zero bytes |
| 48 | i32[16] | dimensions of the runtime's inputs, one input after the other (`runtimes.Runtime.inputs`); zeros behind |
| 112 | u64 | request id, 0: none |
| 120 | u32 | zero |
| 124 | u32 | CRC-32 (IEEE 802.3, as zlib's) of bytes 0..123 |

A writer stores a whole record, then `written`. A reader trusts nothing but the position and the checksum: it takes the
records in [max(taken, written - capacity), written), and one whose position is another or whose checksum is wrong was
overwritten or not there yet. Counters are single stores of 8 aligned bytes; so are `written` and `taken`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from layerwatch.schemas.errors import InvalidRecord

MAGIC = b"LWRING\r\n"
MAJOR, MINOR = 1, 0
HEADER_BYTES = 4096
RECORD_BYTES = 128
#: Default capacity: at 8192 executions/s and thread a second of absence loses nothing (records; 1 MiB).
CAPACITY = 8192
MAX_DIMENSIONS = 16

WRITTEN_OFFSET = 64
COUNTERS_OFFSET = 128
TAKEN_OFFSET = 512

#: Flag: the layers of this execution were sampled, and sent as a datagram.
SAMPLED = 0x100
#: Mask of the flags that `ProfileBatch.flags` has too.
BATCH_FLAGS = 0xFF
UNKNOWN_NS = 2**64 - 1

#: Names of the counters in the header, in order. All but the first two say why something is missing.
COUNTERS = (
    "sampled",  # executions whose layers were sent
    "overhead_ns",  # spent on them outside of their end-to-end time: preparing the twin, reporting, sending
    "failed",  # the caller's block raised: no record
    "untimed",  # no CUDA event could be had: no record
    "no_agent",  # due to be sampled, or sampled, but nobody listens
    "socket_full",  # layers lost: the agent's socket took no more
    "send_failed",  # layers lost: another error of the socket
    "twin_busy",  # due, but the twin of this profile was in use
    "twin_refused",  # due, but this profile can have no twin
    "twin_failed",  # due, but the twin could not be prepared for this execution
    "warm_up",  # the first execution of a twin: its layers would mislead
    "not_reported",  # ran on the twin, but TensorRT reported no layers, or was not asked: its stream may be gone
    "layer_count",  # ran on the twin, but with another number of layers than the profile has
    "errors",  # defects in the probe itself
)

_HEADER = struct.Struct("<8sHHIIIII16s")
RECORD = struct.Struct("<QQQQHHIIB3x16iQII")
#: The same bytes, with the dimensions and their count as one key.
_RECORD_KEYED = struct.Struct("<QQQQHHII68sQII")
_DIMENSIONS = struct.Struct("<B3x16i")
_U64 = struct.Struct("<Q")
_CHECKED = RECORD_BYTES - 4


class RingHeader(NamedTuple):
    capacity: int
    number: int
    thread_id: int
    token: bytes


class Execution(NamedTuple):
    """A record as read. `dimensions` are those of all inputs, one after the other."""

    position: int
    end_unix_ns: int
    end_to_end_ns: int
    host_ns: int
    profile: int
    flags: int
    context: int
    since_change: int
    dimensions: tuple[int, ...]
    request_id: int = 0


class KeyedExecution(NamedTuple):
    """A record as read, its shape left as the 68 bytes that `dimensions_of` takes: equal bytes are equal shapes."""

    position: int
    end_unix_ns: int
    end_to_end_ns: int
    host_ns: int
    profile: int
    flags: int
    context: int
    since_change: int
    shape: bytes
    request_id: int
    reserved: int
    checksum: int


def ring_bytes(capacity: int) -> int:
    """Size of the file."""
    return HEADER_BYTES + capacity * RECORD_BYTES


def encode_header(header: RingHeader) -> bytes:
    """The first 4096 bytes, with nothing written yet; raises ValueError where capacity is no power of two."""
    if header.capacity < 1 or header.capacity & (header.capacity - 1):
        raise ValueError(f"a ring of {header.capacity} records: the number must be a power of two")
    return _HEADER.pack(MAGIC, MAJOR, MINOR, HEADER_BYTES, RECORD_BYTES, *header).ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes, file_bytes: int) -> RingHeader:
    """Of a file's first 4096 bytes; raises InvalidRecord (truncated, wrong_magic, unsupported_version, malformed)."""
    if len(data) < HEADER_BYTES:
        raise InvalidRecord("truncated", f"{len(data)} bytes where a ring's header has {HEADER_BYTES}")
    magic, major, _, header_bytes, record_bytes, capacity, number, thread_id, token = _HEADER.unpack_from(
        data
    )
    if magic != MAGIC:
        raise InvalidRecord("wrong_magic", f"{magic!r} where a ring begins with {MAGIC!r}")
    if major != MAJOR:
        raise InvalidRecord("unsupported_version", f"a ring of format {major}, and format {MAJOR} is read")
    if header_bytes != HEADER_BYTES or record_bytes != RECORD_BYTES or not capacity:
        raise InvalidRecord("malformed", f"header {header_bytes}, record {record_bytes}, capacity {capacity}")
    if capacity & (capacity - 1):
        raise InvalidRecord("malformed", f"a capacity of {capacity} records is no power of two")
    if file_bytes < ring_bytes(capacity):
        raise InvalidRecord("truncated", f"{file_bytes} bytes where the ring has {ring_bytes(capacity)}")
    return RingHeader(capacity, number, thread_id, token)


def encode_dimensions(dimensions: tuple[int, ...]) -> bytes:
    """Bytes 44..111 of a record; dimensions beyond the 16th are left out, and what int32 does not hold is its largest."""
    kept = [min(max(d, -1), 2**31 - 1) for d in dimensions[:MAX_DIMENSIONS]]
    return _DIMENSIONS.pack(len(kept), *kept, *(0 for _ in range(MAX_DIMENSIONS - len(kept))))


def dimensions_of(shape: bytes) -> tuple[int, ...]:
    """Of bytes 44..111 of a record; raises InvalidRecord (malformed)."""
    count, *dimensions = _DIMENSIONS.unpack(shape)
    if count > MAX_DIMENSIONS:
        raise InvalidRecord("malformed", f"{count} dimensions where a record holds {MAX_DIMENSIONS}")
    return tuple(dimensions[:count])


def encode_execution(execution: Execution) -> bytes:
    """128 bytes."""
    head = struct.pack("<QQQQHHII", *execution[:8])
    body = head + encode_dimensions(execution.dimensions) + struct.pack("<QI", execution.request_id, 0)
    return body + struct.pack("<I", zlib.crc32(body))


def decode_execution(data: bytes) -> Execution | None:
    """None where it is torn: half of one record and half of another, or not written yet."""
    (record,) = iter_executions(data) if len(data) == RECORD_BYTES else (None,)
    if record is None:
        return None
    return Execution(*record[:8], dimensions_of(record.shape), record.request_id)


def iter_executions(block: bytes) -> Iterator[KeyedExecution | None]:
    """The records of a block of whole records; None for each that is torn."""
    view = memoryview(block)
    crc32, keyed = zlib.crc32, KeyedExecution._make
    for offset, fields in zip(
        range(0, len(block), RECORD_BYTES), _RECORD_KEYED.iter_unpack(view), strict=True
    ):
        if crc32(view[offset : offset + _CHECKED]) == fields[11] and fields[8][0] <= MAX_DIMENSIONS:
            yield keyed(fields)
        else:
            yield None


def encode_u64(value: int) -> bytes:
    """Of `written`, `taken` or a counter."""
    return _U64.pack(value)


def decode_u64(data: bytes, offset: int = 0) -> int:
    value: int = _U64.unpack_from(data, offset)[0]
    return value


def decode_counters(header: bytes) -> dict[str, int]:
    """By name, from a ring's first 4096 bytes."""
    return {name: decode_u64(header, COUNTERS_OFFSET + 8 * i) for i, name in enumerate(COUNTERS)}
