"""A file of messages as they would have been sent to Kafka: where there is none, an agent writes them down.

It begins with `LWLOG\\r\\n`, one byte 1 (the format) and then holds frames: u32 length and u32 CRC-32 of the payload (both
little-endian), and the payload, msgpack of [topic, key, value]. A frame that is cut short ends the file: its writer ended.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from layerwatch.schemas.errors import InvalidRecord

SUFFIX = ".lwlog"
HEADER = b"LWLOG\r\n\x01"
#: A length beyond it is nonsense (Kafka's own limit is 1 MB).
_MAX_BYTES = 64 << 20

_FRAME = struct.Struct("<II")


class Message(NamedTuple):
    topic: str
    key: bytes
    value: bytes


_DECODER = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """One frame."""
    payload = msgspec.msgpack.encode(message)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def read_messages(file: IO[bytes]) -> Iterator[Message]:
    """All whole messages of a file; raises InvalidRecord (wrong_magic, unsupported_version, malformed)."""
    header = file.read(len(HEADER))
    if header[:-1] != HEADER[:-1]:
        raise InvalidRecord("wrong_magic", "this is no log of messages")
    if header != HEADER:
        raise InvalidRecord("unsupported_version", f"format {header[-1]}, and format {HEADER[-1]} is read")
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(frame)
        payload = file.read(length) if length <= _MAX_BYTES else b""
        if len(payload) < length <= _MAX_BYTES:
            return
        if length > _MAX_BYTES or zlib.crc32(payload) != checksum:
            raise InvalidRecord("malformed", "a message's checksum is wrong: the file was damaged")
        try:
            yield _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            raise InvalidRecord("malformed", f"not a message: {error}") from error
