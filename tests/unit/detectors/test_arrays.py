"""Detector state to bytes and back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layerwatch.detectors.arrays import column_medians, median, pack, quantile, row_medians, unpack

arrays = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64, np.int16, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
)
states = st.dictionaries(
    st.text(max_size=9),
    st.recursive(
        scalars | arrays,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        alike = isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape
        return alike and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@settings(max_examples=60)
@given(states)
def test_nested_state_survives_the_way_to_bytes_and_back(state: dict[str, Any]) -> None:
    assert same(state, unpack(pack(state)))


def test_arrays_come_back_writable() -> None:
    back = unpack(pack({"a": np.zeros(3)}))["a"]
    back += 1
    assert back.tolist() == [1, 1, 1]


def test_numbers_of_numpy_come_back_as_plain_ones() -> None:
    back = unpack(pack({"a": np.float64(1.5), "b": np.int32(7), "c": np.True_}))
    assert [type(value) for value in back.values()] == [float, int, bool]


@pytest.mark.parametrize("value", [object(), 1j, len, np.random.default_rng()])
def test_what_is_no_data_is_refused(value: object) -> None:
    with pytest.raises(NotImplementedError, match="no part of a detector's state"):
        pack({"a": [value]})


def test_an_extension_of_another_kind_is_refused() -> None:
    import zlib

    raw = msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(9, b"x")})
    with pytest.raises((ValueError, msgspec.DecodeError), match="unknown extension 9"):
        unpack(zlib.compress(raw))


def test_dates_are_told_as_text_and_not_as_objects() -> None:
    assert isinstance(unpack(pack({"a": datetime(2026, 1, 1)}))["a"], str)


@settings(max_examples=50)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-9, 9))
)
def test_the_short_medians_equal_those_of_numpy(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    assert np.array_equal(column_medians(values), np.median(values, axis=0))
    for q in (0.0, 0.5, 0.99, 0.995, 1.0):
        assert quantile(values[0], q) == pytest.approx(np.quantile(values[0], q), rel=1e-12, abs=1e-300)
    assert median(values[0]) == pytest.approx(np.median(values[0]))
    assert row_medians(values) == pytest.approx(np.median(values, axis=1))
