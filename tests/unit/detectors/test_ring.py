"""A ring holds the newest rows, whatever comes in whatever portions, and what it gave out stays as it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.ring import Ring

_PORTIONS = st.lists(
    st.one_of(st.integers(0, 12), st.sampled_from(["clear", "restore", "shrink"])), max_size=40
)


@given(_PORTIONS, st.integers(2, 9))
def test_it_holds_the_newest_rows(portions: list[int | str], capacity: int) -> None:
    ring, expected = Ring(capacity, 2), np.empty((0, 2))
    given_out: list[tuple[F64, F64]] = []
    for portion in portions:
        if portion == "clear":
            ring.clear()
            expected = expected[:0]
        elif portion == "restore":
            ring = Ring.restore(ring.state())
        elif portion == "shrink":
            capacity = max(2, capacity - 1)
            ring.shrink(capacity)
            expected = expected[-capacity:]
        else:
            rows = np.arange(2.0 * int(portion)).reshape(-1, 2) + len(given_out)
            ring.push(rows)
            expected = np.concatenate((expected, rows))[-capacity:]
        assert ring.last(capacity).tolist() == expected.tolist()
        assert len(ring) == len(expected)
        given_out.append((ring.last(3), ring.last(3).copy()))
    for view, then in given_out:
        assert view.tolist() == then.tolist()
