"""Records to bytes and back: additions are tolerated, another major version is refused by name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch

READER = Reader(ProfileBatch)

blobs = st.binary(max_size=64)
batches = st.builds(
    ProfileBatch,
    service=st.text(max_size=20),
    instance=st.text(max_size=20),
    boot_ms=st.integers(0, 2**53),
    sequence=st.integers(0, 2**40),
    engine=st.text(max_size=20),
    window_start_s=st.floats(allow_nan=False),
    window_end_s=st.floats(allow_nan=False),
    shapes=st.lists(
        st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 2**31), max_size=4)), max_size=3
    ),
    times_s=blobs,
    end_to_end_ms=blobs,
    layers=st.lists(
        st.builds(
            LayerBlock, profile=st.integers(0, 9), layers=st.integers(0, 999), rows=blobs, times_ms=blobs
        ),
        max_size=2,
    ),
)


@given(batches)
def test_a_record_survives_the_way_to_bytes_and_back(batch: ProfileBatch) -> None:
    assert READER.decode(encode(batch)) == batch


@given(batches, st.lists(st.integers(0, 2**60) | st.text(), max_size=3))
def test_fields_that_a_newer_writer_appends_are_skipped(batch: ProfileBatch, extra: list[object]) -> None:
    raw = msgspec.msgpack.decode(encode(batch))
    assert READER.decode(msgspec.msgpack.encode([*raw, *extra])) == batch


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_as_invalid_and_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        READER.decode(data)


@given(batches, st.data())
def test_a_truncated_record_is_malformed(batch: ProfileBatch, data: st.DataObject) -> None:
    whole = encode(batch)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(InvalidRecord) as error:
        READER.decode(cut)
    assert error.value.reason == "malformed"


def test_another_major_version_is_refused_by_name() -> None:
    batch = ProfileBatch(
        service="s", instance="i", boot_ms=0, sequence=0, engine="e", window_start_s=0, window_end_s=1
    )
    raw = msgspec.msgpack.decode(encode(batch))
    with pytest.raises(InvalidRecord) as error:
        READER.decode(msgspec.msgpack.encode(["layerwatch.profiles/2", *raw[1:]]))
    assert error.value.reason == "unsupported_version"
    assert "layerwatch.profiles/2" in str(error.value)
