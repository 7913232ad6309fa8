"""CloudEvents 1.0 headers, binary content mode of the Kafka protocol binding (attributes as `ce_` headers)."""

from __future__ import annotations


def headers(*, id: str, type: str, source: str, time: str) -> list[tuple[str, bytes]]:
    """`time` in RFC 3339; `source` a URI reference such as `/layerwatch/processor`."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", b"application/json"),
    ]
