"""layerwatch.deadletter: what could not be read, with the reason, so that nothing is lost without a trace."""

from __future__ import annotations

import msgspec

#: Bytes of the refused message that are kept; a larger one is cut, and `size` tells its true length.
KEPT_BYTES = 256 * 1024


class DeadLetter(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.deadletter/1"):
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    size: int
    key: bytes
    value: bytes


def dead_letter(
    *,
    topic: str,
    partition: int,
    offset: int,
    reason: str,
    detail: str,
    key: bytes | None,
    value: bytes | None,
) -> DeadLetter:
    value = value or b""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        detail=detail[:1000],
        size=len(value),
        key=(key or b"")[:1000],
        value=value[:KEPT_BYTES],
    )
