"""Bytes to records and back: msgpack for machines, JSON for alerts and decisions.

Every record begins with a tag, `name/major`. Fields are only ever appended, with defaults, so an older reader skips
what it does not know and a newer one fills what is missing; another major version is refused by name.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from layerwatch.schemas.errors import InvalidRecord

T = TypeVar("T", bound=msgspec.Struct)

_MSGPACK = msgspec.msgpack.Encoder()
_JSON = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """msgpack bytes of a record."""
    return _MSGPACK.encode(record)


def encode_json(record: msgspec.Struct) -> bytes:
    """JSON bytes of a record (UTF-8)."""
    return _JSON.encode(record)


class Reader(Generic[T]):
    """Decodes one type of record; raises `InvalidRecord` with the reasons malformed or unsupported_version."""

    def __init__(self, record: type[T], *, json: bool = False) -> None:
        self._json = json
        self._tag = str(record.__struct_config__.tag)
        self._decoder: msgspec.json.Decoder[T] | msgspec.msgpack.Decoder[T] = (
            msgspec.json.Decoder(record) if json else msgspec.msgpack.Decoder(record)
        )

    def decode(self, data: bytes) -> T:
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(data, error) from error

    def _explain(self, data: bytes, error: Exception) -> InvalidRecord:
        tag = self._peek(data)
        name, _, major = self._tag.rpartition("/")
        if tag is not None and tag != self._tag and tag.rpartition("/")[0] == name:
            return InvalidRecord(
                "unsupported_version",
                f"{tag} where {self._tag} is read: run a reader of major version {tag.rpartition('/')[2]}",
            )
        return InvalidRecord("malformed", f"not a {name} of version {major}: {error}")

    def _peek(self, data: bytes) -> str | None:
        """The record's tag, from bytes that did not decode; None where there is none."""
        try:
            raw = msgspec.json.decode(data) if self._json else msgspec.msgpack.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        tag = (
            raw.get("schema") if isinstance(raw, dict) else raw[0] if isinstance(raw, list) and raw else None
        )
        return tag if isinstance(tag, str) else None
