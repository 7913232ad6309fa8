"""The control page: what a runtime should sample and which engine it should use, read by it without a system call. Format 1.

A file `control` of 4096 bytes in a runtime's folder (see `runtimes`). The runtime makes and maps it; the agent writes its
parts with `pwrite`, and nobody ever shortens it. All numbers are little-endian; what is not named is zero.

| offset | type | what | written by |
|---|---|---|---|
| 0 | 8 bytes | `LWPAGE\\r\\n` | runtime, once |
| 8 | u16 | major version, 1: another one is refused | runtime, once |
| 10 | u16 | minor version, 1: routing is read; 0: it is not | runtime, once |
| 12 | u32 | bytes of the page, 4096 | runtime, once |
| 16 | 16 bytes | token of the runtime | runtime, once |
| 64 | 64 bytes | sampling, below | agent |
| 128 | u32 | state: 1 serving, 2 leaving (said goodbye) | runtime |
| 132 | u32 | how many rings it has made | runtime |
| 136 | u64 | device memory that its twins have taken, bytes | runtime |
| 256 | 256 bytes | routing, below | agent |
| 512 | u64 | sequence of the next message of this runtime | agent |
| 520 | f64 | unix s up to which its executions have been told | agent |

Sampling, 64 bytes at offset 64:

| offset | type | what |
|---|---|---|
| 0 | u32 | generation: another one than before with each write, never 0 |
| 4 | u8 | tier: 0 off, 1 baseline, 2 evidence, 3 canary; then three zero bytes |
| 8 | f64 | rate: share of executions whose layers are sampled, 0..1 |
| 16 | f64 | expires, unix s; from then on the runtime is in its own baseline |
| 24 | f64 | cost ceiling in percent of mean latency that the rate keeps to; 0: none |
| 32 | 28 bytes | zero |
| 60 | u32 | CRC-32 (IEEE 802.3, as zlib's) of bytes 0..59 |

Routing, 256 bytes at offset 256: the decision of mode enforce that holds for this runtime, its own before its service's.

| offset | type | what |
|---|---|---|
| 0 | u32 | generation: another one than before with each write, never 0 |
| 4 | u8 | action: 0 none, 1 fallback_precision, 2 failover, 3 shed, 4 restore; then three zero bytes |
| 8 | f64 | expires, unix s: the lease's end; from then on as with action 0 |
| 16 | u64 | epoch of the decision |
| 24 | u8 | m: bytes of the engine's name, 0..64 |
| 25 | u8 | n: bytes of the decision's id, 0..64; then six zero bytes |
| 32 | 64 bytes | name of the engine to use, UTF-8; zeros behind |
| 96 | 64 bytes | id of the decision, UTF-8; zeros behind |
| 160 | 92 bytes | zero |
| 252 | u32 | CRC-32 of bytes 0..251 |

With fallback_precision and failover a runtime runs on the standby of that name (on its only one where the name is empty),
with all else, and with a name that it does not know, on its primary engine.

A runtime compares a generation with the last one it has seen; where it differs it reads the whole part and takes it if
the checksum is right, else looks again at its next execution. A page that nobody has written has generation 0.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import NamedTuple

from layerwatch.schemas.errors import InvalidRecord

MAGIC = b"LWPAGE\r\n"
MAJOR, MINOR = 1, 1
PAGE_BYTES = 4096

SAMPLING_OFFSET = 64
SAMPLING_BYTES = 64
STATE_OFFSET = 128
ROUTE_OFFSET = 256
ROUTE_BYTES = 256
NOTES_OFFSET = 512

SERVING, LEAVING = 1, 2
#: Names of the tiers, by number.
TIERS = ("off", "baseline", "evidence", "canary")
#: Actions of routing, by number.
ROUTES = ("none", "fallback_precision", "failover", "shed", "restore")
NAME_BYTES = 64

_HEADER = struct.Struct("<8sHHI16s")
_SAMPLING = struct.Struct("<IB3xddd28x")
_ROUTE = struct.Struct("<IB3xdQBB6x64s64s92x")
_CHECKSUM = struct.Struct("<I")
_STATE = struct.Struct("<IIQ")
_NOTES = struct.Struct("<Qd")


class Sampling(NamedTuple):
    """What an instance should sample until `expires_s` (unix)."""

    tier: str
    rate: float
    expires_s: float
    ceiling_pct: float = 0.0


class Route(NamedTuple):
    """Which engine a runtime should use until `expires_s` (unix): `engine` is the name that it knows a standby by."""

    action: str
    engine: str = ""
    expires_s: float = 0.0
    epoch: int = 0
    decision: str = ""  # its id


class State(NamedTuple):
    """What a runtime says of itself."""

    state: int
    rings: int
    device_bytes: int


class Notes(NamedTuple):
    """What an agent keeps there, so that the next agent goes on where it ended."""

    next_sequence: int
    told_until_s: float


def encode_page(token: bytes) -> bytes:
    """A page that no agent has written yet."""
    return (_HEADER.pack(MAGIC, MAJOR, MINOR, PAGE_BYTES, token)).ljust(PAGE_BYTES, b"\0")


def decode_page(data: bytes) -> bytes:
    """The token; raises InvalidRecord (truncated, wrong_magic, unsupported_version, malformed)."""
    if len(data) < PAGE_BYTES:
        raise InvalidRecord("truncated", f"{len(data)} bytes where a control page has {PAGE_BYTES}")
    magic, major, _, page_bytes, token = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise InvalidRecord("wrong_magic", f"{magic!r} where a control page begins with {MAGIC!r}")
    if major != MAJOR:
        raise InvalidRecord("unsupported_version", f"a page of format {major}, and format {MAJOR} is read")
    if page_bytes != PAGE_BYTES:
        raise InvalidRecord("malformed", f"a page that says it has {page_bytes} bytes")
    return bytes(token)


def encode_sampling(generation: int, sampling: Sampling) -> bytes:
    """64 bytes; raises ValueError for a tier, a rate or a time that no runtime would take."""
    if not _is_valid(generation, sampling):
        raise ValueError(f"{sampling} of generation {generation} cannot be obeyed")
    body = _SAMPLING.pack(
        generation, TIERS.index(sampling.tier), sampling.rate, sampling.expires_s, sampling.ceiling_pct
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_sampling(data: bytes) -> tuple[int, Sampling] | None:
    """Generation and sampling; None where they are torn, make no sense, or were never written."""
    body, checksum = data[:-4], data[-4:]
    if len(data) != SAMPLING_BYTES or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        return None
    generation, tier, rate, expires_s, ceiling_pct = _SAMPLING.unpack(body)
    if tier >= len(TIERS):
        return None
    sampling = Sampling(TIERS[tier], rate, expires_s, ceiling_pct)
    return (generation, sampling) if _is_valid(generation, sampling) else None


def _is_valid(generation: int, sampling: Sampling) -> bool:
    return (
        0 < generation < 2**32
        and sampling.tier in TIERS
        and 0 <= sampling.rate <= 1
        and math.isfinite(sampling.expires_s)
        and 0 <= sampling.ceiling_pct < math.inf
    )


def encode_route(generation: int, route: Route) -> bytes:
    """256 bytes; raises ValueError for what no runtime would take, such as a name of more than 64 bytes."""
    engine, decision = route.engine.encode(), route.decision.encode()
    if max(len(engine), len(decision)) > NAME_BYTES or not _is_valid_route(generation, route):
        raise ValueError(f"{route} of generation {generation} cannot be obeyed")
    body = _ROUTE.pack(
        generation,
        ROUTES.index(route.action),
        route.expires_s,
        route.epoch,
        len(engine),
        len(decision),
        engine,
        decision,
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_route(data: bytes) -> tuple[int, Route] | None:
    """Generation and route; None where they are torn, make no sense, or were never written."""
    body, checksum = data[:-4], data[-4:]
    if len(data) != ROUTE_BYTES or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(body):
        return None
    generation, action, expires_s, epoch, m, n, engine, decision = _ROUTE.unpack(body)
    if action >= len(ROUTES) or max(m, n) > NAME_BYTES:
        return None
    try:
        route = Route(ROUTES[action], engine[:m].decode(), expires_s, epoch, decision[:n].decode())
    except UnicodeDecodeError:
        return None
    return (generation, route) if _is_valid_route(generation, route) else None


def _is_valid_route(generation: int, route: Route) -> bool:
    return (
        0 < generation < 2**32
        and route.action in ROUTES
        and math.isfinite(route.expires_s)
        and 0 <= route.epoch < 2**64
    )


def encode_state(state: State) -> bytes:
    """16 bytes at 128."""
    return _STATE.pack(*state)


def decode_state(page: bytes) -> State:
    """Of a whole page."""
    return State(*_STATE.unpack_from(page, STATE_OFFSET))


def encode_notes(notes: Notes) -> bytes:
    """16 bytes at 512."""
    return _NOTES.pack(*notes)


def decode_notes(page: bytes) -> Notes:
    """Of a whole page; of one that no agent has written, zeros."""
    return Notes(*_NOTES.unpack_from(page, NOTES_OFFSET))
