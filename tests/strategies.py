"""Messages for property tests: well-formed ones with every kind of content, and ones whose columns disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

_texts = st.text(max_size=8)
_shapes = st.lists(
    st.dictionaries(_texts, st.lists(st.integers(0, 2**31), max_size=4), max_size=2), max_size=3
)


def _exactly(size: int) -> st.SearchStrategy[bytes]:
    """Any bytes are floats, among them every NaN and both zeros."""
    return st.binary(min_size=size, max_size=size)


def _column(size: int) -> st.SearchStrategy[bytes]:
    return st.just(b"") | _exactly(size)


@st.composite
def _blocks(draw: st.DrawFn, n: int) -> list[LayerBlock]:
    owners = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    blocks = []
    for number in range(draw(st.integers(0, 3))):
        rows = np.array([row for row, owner in enumerate(owners) if owner == number], "<u4")
        layers = draw(st.integers(0, 3))
        blocks.append(
            LayerBlock(
                draw(st.integers(0, 9)), layers, rows.tobytes(), draw(_exactly(4 * layers * len(rows)))
            )
        )
    return blocks


@st.composite
def _precision(draw: st.DrawFn, n: int) -> PrecisionBlock:
    taken = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    rows = np.flatnonzero(taken).astype("<u4")
    tensors = draw(st.integers(0, 2))
    table, column = _exactly(4 * tensors * len(rows)), _column(4 * len(rows))
    return PrecisionBlock(
        rows.tobytes(), tensors, draw(table), draw(table), draw(column), draw(column), draw(column)
    )


def _head() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "service": _texts,
        "instance": _texts,
        "boot_ms": st.integers(0, 2**63 - 1),
        "sequence": st.integers(0, 2**63 - 1),
        "engine": _texts,
        "window_start_s": st.floats(),
        "window_end_s": st.floats(),
        "host": _texts,
        "gpu": _texts,
        "state": st.sampled_from(["serving", "idle", "leaving", "crashed"]),
        "shapes": _shapes,
        "tier": _texts,
        "rate": st.floats(),
        "dropped": st.integers(0, 2**40),
    }


@st.composite
def consistent_batches(draw: st.DrawFn) -> ProfileBatch:
    n = draw(st.integers(0, 5))
    samples = draw(st.integers(0, 2))
    columns: dict[str, Any] = {
        "times_s": _column(8 * n),
        "shape_index": _column(2 * n),
        "profile_index": _column(n),
        "flags": _column(n),
        "end_to_end_ms": _exactly(4 * n),
        "host_ms": _column(4 * n),
        "layers": _blocks(n),
        "counters": _exactly(8 * len(COUNTER_COLUMNS) * samples),
        "precision": st.none() | _precision(n),
    }
    return draw(st.builds(ProfileBatch, **_head(), **columns))


def odd_batches() -> st.SearchStrategy[ProfileBatch]:
    """Columns of any length, whole numbers as large as msgpack takes."""
    blob, whole = st.binary(max_size=12), st.integers(0, 2**64 - 1)
    names = ("times_s", "shape_index", "profile_index", "flags", "end_to_end_ms", "host_ms", "counters")
    block = st.builds(LayerBlock, profile=whole, layers=st.integers(-2, 3), rows=blob, times_ms=blob)
    precision = st.builds(
        PrecisionBlock, rows=blob, tensors=st.integers(-2, 3), clipped=blob, peak_ratio=blob, cosine=blob
    )
    columns: dict[str, Any] = dict.fromkeys(names, blob)
    return st.builds(
        ProfileBatch,
        **(_head() | {"boot_ms": whole, "dropped": whole}),
        **columns,
        layers=st.lists(block, max_size=2),
        precision=st.none() | precision,
    )
