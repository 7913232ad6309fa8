"""The datagram of a sampled execution: the time of each of its layers. Format 1.

A runtime sends one for each sampled execution to the agent's Unix datagram socket (see `runtimes`), never waiting: what
the socket does not take is dropped and counted in the ring. All numbers are little-endian.

| offset | type | what |
|---|---|---|
| 0 | 8 bytes | `LWLAYERS` |
| 8 | u16 | major version, 1: another one is refused |
| 10 | u16 | bytes of this header, 64; layers begin there, so that a higher minor version may append to it |
| 12 | u16 | optimization profile |
| 14 | u16 | zero |
| 16 | 16 bytes | token of the runtime |
| 32 | u32 | number of the ring that has the execution's record |
| 36 | u32 | n: how many layers, 1 to 16384 |
| 40 | u64 | position of that record |
| 48 | 16 bytes | zero |
| 64 | f32[n] | milliseconds of each layer, in call order; nothing follows |

It may arrive before or after its record, which has the flag `SAMPLED`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from layerwatch.schemas.errors import InvalidRecord

MAGIC = b"LWLAYERS"
MAJOR = 1
HEADER_BYTES = 64
MAX_LAYERS = 16384
MAX_BYTES = HEADER_BYTES + 4 * MAX_LAYERS

_HEADER = struct.Struct("<8sHHHH16sIIQ16x")


class LayerSample(NamedTuple):
    """Layers of one execution: `times_ms` is float32 [layers] in call order, as bytes."""

    token: bytes
    ring: int
    position: int
    profile: int
    times_ms: bytes


def encode_sample(sample: LayerSample) -> bytes:
    """The datagram; raises ValueError for no layers, or too many."""
    layers, rest = divmod(len(sample.times_ms), 4)
    if rest or not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"{len(sample.times_ms)} bytes are not 1 to {MAX_LAYERS} layers")
    return (
        _HEADER.pack(
            MAGIC, MAJOR, HEADER_BYTES, sample.profile, 0, sample.token, sample.ring, layers, sample.position
        )
        + sample.times_ms
    )


def decode_sample(data: bytes) -> LayerSample:
    """Of a datagram; raises InvalidRecord (truncated, wrong_magic, unsupported_version, malformed)."""
    if len(data) < HEADER_BYTES:
        raise InvalidRecord("truncated", f"{len(data)} bytes where the header alone has {HEADER_BYTES}")
    magic, major, header_bytes, profile, _, token, ring, layers, index = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise InvalidRecord("wrong_magic", f"{magic!r} where a sample begins with {MAGIC!r}")
    if major != MAJOR:
        raise InvalidRecord("unsupported_version", f"a sample of format {major}, and format {MAJOR} is read")
    if header_bytes < HEADER_BYTES or not 1 <= layers <= MAX_LAYERS:
        raise InvalidRecord("malformed", f"a header of {header_bytes} bytes, {layers} layers")
    if len(data) != header_bytes + 4 * layers:
        raise InvalidRecord("truncated", f"{len(data)} bytes where {layers} layers need {4 * layers} more")
    return LayerSample(token, ring, index, profile, data[header_bytes:])
