"""Executions of a runtime to messages: columns, blocks of layers, all that `ProfileBatch` has."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

from layerwatch.schemas.profiles import CHANGED_SHAPE, MAX_SAMPLED, LayerBlock, ProfileBatch
from layerwatch.schemas.ring import BATCH_FLAGS, SAMPLED, UNKNOWN_NS, KeyedExecution, dimensions_of
from layerwatch.schemas.runtimes import Input, Runtime
from layerwatch.schemas.samples import LayerSample

#: Executions in one message: some 170 KB of columns.
MAX_EXECUTIONS = 8192
#: Bytes of layers in one message; a message of Kafka holds 1 MB.
MAX_LAYER_BYTES = 600_000
#: Longer than anything that is believed (ms, one hour).
_MAX_MS = 3.6e6

#: Which layers an execution had: ring and position.
Find = Callable[[int, int], LayerSample | None]


class Row(NamedTuple):
    """An execution that waits for its message; rows sort by time."""

    end_ns: int
    ring: int
    execution: KeyedExecution


class Columns(NamedTuple):
    """Of one message, and how many samples found no layers, or layers that cannot be."""

    fields: dict[str, object]
    unmatched: int
    sampled: int


def split(rows: Sequence[Row], layers: int) -> list[Sequence[Row]]:
    """Rows as they fit into messages; `layers` is the largest number of layers of a profile."""
    samples = max(1, min(MAX_SAMPLED, MAX_LAYER_BYTES // (4 * max(1, layers))))
    parts: list[Sequence[Row]] = []
    begin = taken = 0
    for place, row in enumerate(rows):
        sampled = row.execution.flags & SAMPLED
        if place - begin >= MAX_EXECUTIONS or (sampled and taken >= samples):
            parts.append(rows[begin:place])
            begin, taken = place, 0
        if sampled:
            taken += 1
    parts.append(rows[begin:])
    return parts


def columns(
    rows: Sequence[Row],
    inputs: list[Input],
    layer_counts: dict[int, int],
    find: Find,
    start_s: float,
    end_s: float,
) -> Columns:
    """The columns of a message; times are held between its window's start and end."""
    rows = [
        row for row in rows if row.execution.end_to_end_ns < _MAX_MS * 1e6 and row.execution.profile < 256
    ]
    shapes: list[dict[str, list[int]]] = []
    if not rows:
        return Columns({"shapes": shapes}, 0, 0)
    ends, _, executions = zip(*rows, strict=True)
    _, _, end_to_end, host, profiles, flags, _, since_change, keys, *_ = zip(*executions, strict=True)
    numbers: dict[bytes, int] = {}
    for key in dict.fromkeys(keys):
        numbers[key] = len(shapes)
        shapes.append(shape_of(key, inputs))
    blocks, unmatched, sampled = _blocks(rows, layer_counts, find)
    fields: dict[str, object] = {
        "shapes": shapes,
        "times_s": _bytes(array("d", [min(max(ns * 1e-9, start_s), end_s) for ns in ends])),
        "shape_index": _bytes(array("H", [numbers[key] for key in keys])),
        "profile_index": bytes(profiles),
        "flags": bytes(
            [
                flag & BATCH_FLAGS if since else flag & BATCH_FLAGS | CHANGED_SHAPE
                for flag, since in zip(flags, since_change, strict=True)
            ]
        ),
        "end_to_end_ms": _bytes(array("f", [max(ns, 1) * 1e-6 for ns in end_to_end])),
        "layers": blocks,
    }
    if UNKNOWN_NS not in host:
        fields["host_ms"] = _bytes(array("f", [min(ns * 1e-6, _MAX_MS) for ns in host]))
    return Columns(fields, unmatched, sampled)


def batch(
    about: Runtime, sequence: int, start_s: float, end_s: float, state: str, fields: dict[str, object]
) -> ProfileBatch:
    """The message."""
    return ProfileBatch(
        service=about.service,
        instance=about.instance,
        boot_ms=about.boot_ms,
        sequence=sequence,
        engine=about.engine,
        window_start_s=start_s,
        window_end_s=end_s,
        host=about.host,
        gpu=about.gpu,
        state=state,
        **fields,  # type: ignore[arg-type]
    )


def shape_of(key: bytes, inputs: list[Input]) -> dict[str, list[int]]:
    """A record's dimensions by input; what is not known is 1, since a shape must be one."""
    dimensions = dimensions_of(key)
    shape: dict[str, list[int]] = {}
    begin = 0
    for tensor in inputs:
        found = dimensions[begin : begin + tensor.rank]
        shape[tensor.name] = [max(d, 1) for d in found] + [1] * (tensor.rank - len(found))
        begin += tensor.rank
    return shape or {"input": [1]}


def _blocks(
    rows: Sequence[Row], layer_counts: dict[int, int], find: Find
) -> tuple[list[LayerBlock], int, int]:
    places: dict[int, list[int]] = {}
    times: dict[int, list[bytes]] = {}
    unmatched = 0
    for place, row in enumerate(rows):
        if not row.execution.flags & SAMPLED:
            continue
        sample = find(row.ring, row.execution.position)
        profile = row.execution.profile
        if sample is None or not _is_credible(sample.times_ms, layer_counts.get(profile, 0)):
            unmatched += 1
            continue
        places.setdefault(profile, []).append(place)
        times.setdefault(profile, []).append(sample.times_ms)
    blocks = [
        LayerBlock(profile, layer_counts[profile], _bytes(array("I", found)), b"".join(times[profile]))
        for profile, found in sorted(places.items())
    ]
    return blocks, unmatched, sum(map(len, places.values()))


def _is_credible(times_ms: bytes, layers: int) -> bool:
    """Whether these are the times of so many layers."""
    if not layers or len(times_ms) != 4 * layers:
        return False
    values = array("f", times_ms)
    if sys.byteorder == "big":
        values.byteswap()
    return math.isfinite(sum(values)) and min(values) >= 0 and max(values) < _MAX_MS


def _bytes(values: array[int] | array[float]) -> bytes:
    """Little-endian."""
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
