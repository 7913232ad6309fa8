"""Ring, datagram and control page: what is written is read, and what is torn, cut, older or foreign is refused."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.schemas import control_page, ring, samples
from layerwatch.schemas.control_page import Notes, Route, Sampling, State
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.ring import Execution, RingHeader
from layerwatch.schemas.samples import LayerSample

TOKEN = bytes(range(16))

_u16, _u32, _u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
executions = st.builds(
    Execution,
    position=_u64,
    end_unix_ns=_u64,
    end_to_end_ns=_u64,
    host_ns=_u64,
    profile=_u16,
    flags=_u16,
    context=_u32,
    since_change=_u32,
    dimensions=st.lists(st.integers(-1, 2**31 - 1), max_size=16).map(tuple),
    request_id=_u64,
)
layer_samples = st.builds(
    LayerSample,
    token=st.binary(min_size=16, max_size=16),
    ring=_u32,
    position=_u64,
    profile=_u16,
    times_ms=st.integers(1, 50).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
)
samplings = st.builds(
    Sampling,
    tier=st.sampled_from(control_page.TIERS),
    rate=st.floats(0, 1),
    expires_s=st.floats(allow_nan=False, allow_infinity=False),
    ceiling_pct=st.floats(0, 1e6),
)


def _reason(call: object, *args: object) -> str:
    with pytest.raises(InvalidRecord) as error:
        call(*args)  # type: ignore[operator]
    return error.value.reason


@given(executions)
def test_an_execution_survives_the_way_to_bytes_and_back(execution: Execution) -> None:
    data = ring.encode_execution(execution)
    assert len(data) == ring.RECORD_BYTES
    assert ring.decode_execution(data) == execution


def test_a_record_lies_in_bytes_as_it_is_written_down() -> None:
    data = ring.encode_execution(Execution(7, 2, 3, ring.UNKNOWN_NS, 4, 0x102, 5, 6, (8, -1), 9))
    assert struct.unpack_from("<QQQ", data) == (7, 2, 3)
    assert data[24:32] == b"\xff" * 8
    assert struct.unpack_from("<HHII", data, 32) == (4, 0x102, 5, 6)
    assert data[44:48] == b"\2\0\0\0"
    assert struct.unpack_from("<iii", data, 48) == (8, -1, 0)
    assert struct.unpack_from("<QI", data, 112) == (9, 0)
    assert struct.unpack_from("<I", data, 124)[0] == zlib.crc32(data[:124])


@given(executions, executions, st.integers(1, 127))
def test_half_of_one_record_over_half_of_another_is_torn(old: Execution, new: Execution, cut: int) -> None:
    before, after = ring.encode_execution(old), ring.encode_execution(new)
    mixed = after[:cut] + before[cut:]
    if mixed not in (before, after):
        assert ring.decode_execution(mixed) is None


@given(executions, st.integers(0, 127), st.integers(1, 255))
def test_a_changed_byte_is_noticed(execution: Execution, at: int, change: int) -> None:
    data = bytearray(ring.encode_execution(execution))
    data[at] ^= change
    assert ring.decode_execution(bytes(data)) is None


def test_a_place_never_written_is_no_record() -> None:
    assert ring.decode_execution(bytes(128)) is None
    assert ring.decode_execution(b"") is None


@given(st.lists(executions, min_size=1, max_size=6), st.data())
def test_a_block_gives_its_records_in_order_and_none_for_the_torn(
    written: list[Execution], data: st.DataObject
) -> None:
    torn = data.draw(st.integers(0, len(written) - 1))
    block = bytearray(b"".join(map(ring.encode_execution, written)))
    block[torn * 128 + 124] ^= 1
    read = list(ring.iter_executions(bytes(block)))
    assert [r is None for r in read] == [i == torn for i in range(len(written))]
    assert [(r.position, ring.dimensions_of(r.shape)) for r in read if r is not None] == [
        (e.position, e.dimensions) for i, e in enumerate(written) if i != torn
    ]


@given(st.lists(st.integers(-(2**40), 2**40), max_size=40).map(tuple))
def test_dimensions_that_do_not_fit_are_cut_and_clamped(dimensions: tuple[int, ...]) -> None:
    kept = ring.dimensions_of(ring.encode_dimensions(dimensions))
    assert kept == tuple(min(max(d, -1), 2**31 - 1) for d in dimensions[:16])


@given(st.integers(0, 16), _u32, _u32)
def test_a_ring_header_survives(power: int, number: int, thread_id: int) -> None:
    header = RingHeader(2**power, number, thread_id, TOKEN)
    data = ring.encode_header(header)
    assert len(data) == ring.HEADER_BYTES
    assert ring.decode_header(data, ring.ring_bytes(header.capacity)) == header
    assert ring.decode_u64(data, ring.WRITTEN_OFFSET) == ring.decode_u64(data, ring.TAKEN_OFFSET) == 0
    assert set(ring.decode_counters(data).values()) == {0}


def test_a_ring_of_another_kind_version_or_length_is_refused() -> None:
    data = ring.encode_header(RingHeader(8, 0, 1, TOKEN))
    size = ring.ring_bytes(8)
    assert _reason(ring.decode_header, data[:100], size) == "truncated"
    assert _reason(ring.decode_header, data, size - 1) == "truncated"
    assert _reason(ring.decode_header, b"x" + data[1:], size) == "wrong_magic"
    assert _reason(ring.decode_header, data[:8] + b"\2\0" + data[10:], size) == "unsupported_version"
    assert _reason(ring.decode_header, data[:16] + b"\7\0\0\0" + data[20:], size) == "malformed"
    assert _reason(ring.decode_header, data[:20] + b"\7\0\0\0" + data[24:], size) == "malformed"
    newer = data[:10] + b"\1\0" + data[12:]
    assert ring.decode_header(newer, size).capacity == 8
    with pytest.raises(ValueError, match="power of two"):
        ring.encode_header(RingHeader(12, 0, 0, TOKEN))


def test_the_counters_fit_in_their_part_of_the_header() -> None:
    assert ring.COUNTERS_OFFSET + 8 * len(ring.COUNTERS) <= ring.TAKEN_OFFSET


@given(layer_samples)
def test_a_sample_survives_the_way_to_bytes_and_back(sample: LayerSample) -> None:
    assert samples.decode_sample(samples.encode_sample(sample)) == sample


@given(layer_samples, st.data())
def test_a_truncated_or_longer_sample_is_refused(sample: LayerSample, data: st.DataObject) -> None:
    whole = samples.encode_sample(sample)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert _reason(samples.decode_sample, whole[:cut]) == "truncated"
    assert _reason(samples.decode_sample, whole + b"\0") == "truncated"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_sample(data: bytes) -> None:
    assert _reason(samples.decode_sample, data) in ("truncated", "wrong_magic")


def test_a_sample_of_another_version_is_refused_and_a_longer_header_is_skipped() -> None:
    data = samples.encode_sample(LayerSample(TOKEN, 1, 2, 3, b"\0\0\x80?"))
    assert _reason(samples.decode_sample, data[:8] + b"\2\0" + data[10:]) == "unsupported_version"
    assert _reason(samples.decode_sample, data[:36] + bytes(4) + data[40:]) == "malformed"
    longer = data[:10] + b"\x48\0" + data[12:64] + b"appended" + data[64:]
    assert samples.decode_sample(longer) == LayerSample(TOKEN, 1, 2, 3, b"\0\0\x80?")
    with pytest.raises(ValueError, match="layers"):
        samples.encode_sample(LayerSample(TOKEN, 1, 2, 3, b""))


@given(st.integers(1, 2**32 - 1), samplings)
def test_sampling_survives_the_way_to_bytes_and_back(generation: int, sampling: Sampling) -> None:
    data = control_page.encode_sampling(generation, sampling)
    assert len(data) == control_page.SAMPLING_BYTES
    assert control_page.decode_sampling(data) == (generation, sampling)


@given(samplings, samplings, st.integers(1, 63))
def test_half_of_one_order_over_half_of_another_is_torn(old: Sampling, new: Sampling, cut: int) -> None:
    before, after = control_page.encode_sampling(1, old), control_page.encode_sampling(2, new)
    mixed = after[:cut] + before[cut:]
    if mixed not in (before, after):
        assert control_page.decode_sampling(mixed) is None


@pytest.mark.parametrize(
    ("generation", "sampling"),
    [
        (0, Sampling("off", 0.0, 1.0)),
        (1, Sampling("maximal", 0.0, 1.0)),
        (1, Sampling("canary", 1.5, 1.0)),
        (1, Sampling("canary", float("nan"), 1.0)),
        (1, Sampling("canary", 1.0, float("inf"))),
        (1, Sampling("canary", 1.0, 1.0, -1.0)),
    ],
)
def test_an_order_that_no_runtime_would_take_is_not_written(generation: int, sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="cannot be obeyed"):
        control_page.encode_sampling(generation, sampling)


def test_an_order_with_a_right_checksum_and_a_senseless_rate_is_not_read() -> None:
    data = bytearray(control_page.encode_sampling(1, Sampling("canary", 1.0, 1.0)))
    data[8:16] = struct.pack("<d", 7.0)
    data[60:] = struct.pack("<I", zlib.crc32(bytes(data[:60])))
    assert control_page.decode_sampling(bytes(data)) is None
    data[4] = 9
    data[60:] = struct.pack("<I", zlib.crc32(bytes(data[:60])))
    assert control_page.decode_sampling(bytes(data)) is None


def test_a_page_that_nobody_has_written_orders_nothing() -> None:
    page = control_page.encode_page(TOKEN)
    assert len(page) == control_page.PAGE_BYTES
    assert control_page.decode_page(page) == TOKEN
    assert control_page.decode_sampling(page[64:128]) is None
    assert control_page.decode_route(page[256:512]) is None
    assert control_page.decode_notes(page) == Notes(0, 0.0)
    assert control_page.decode_state(page) == State(0, 0, 0)


@given(_u32, _u32, _u64, _u64, st.floats(allow_nan=False))
def test_what_both_sides_note_on_the_page_survives_side_by_side(
    state: int, rings: int, device_bytes: int, sequence: int, told_s: float
) -> None:
    page = bytearray(control_page.encode_page(TOKEN))
    page[128:144] = control_page.encode_state(State(state, rings, device_bytes))
    page[512:528] = control_page.encode_notes(Notes(sequence, told_s))
    page[64:128] = control_page.encode_sampling(3, Sampling("evidence", 0.1, 5.0))
    assert control_page.decode_page(bytes(page)) == TOKEN
    assert control_page.decode_state(bytes(page)) == State(state, rings, device_bytes)
    assert control_page.decode_notes(bytes(page)) == Notes(sequence, told_s)


routes = st.builds(
    Route,
    st.sampled_from(control_page.ROUTES),
    st.text(max_size=16),
    st.floats(allow_nan=False, allow_infinity=False),
    _u64,
    st.text("0123456789abcdef", max_size=64),
)


@given(st.integers(1, 2**32 - 1), routes)
def test_a_route_survives_the_way_to_bytes_and_back(generation: int, route: Route) -> None:
    data = control_page.encode_route(generation, route)
    assert len(data) == control_page.ROUTE_BYTES
    assert control_page.decode_route(data) == (generation, route)


def test_a_route_lies_where_the_format_says() -> None:
    data = control_page.encode_route(7, Route("failover", "v1", 2.5, 9, "abc"))
    assert data[:8] == b"\7\0\0\0\2\0\0\0"
    assert struct.unpack_from("<dQBB", data, 8) == (2.5, 9, 2, 3)
    assert data[26:35] == b"\0" * 6 + b"v1\0"
    assert data[96:100] == b"abc\0"
    assert data[100:252] == bytes(152)
    assert struct.unpack_from("<I", data, 252)[0] == zlib.crc32(data[:252])
    # a name of the greatest length, in letters of two bytes
    assert control_page.decode_route(control_page.encode_route(1, Route("failover", "é" * 32))) is not None


@given(routes, routes, st.integers(1, 255))
def test_half_of_one_route_over_half_of_another_is_torn(old: Route, new: Route, cut: int) -> None:
    before, after = control_page.encode_route(1, old), control_page.encode_route(2, new)
    mixed = after[:cut] + before[cut:]
    if mixed not in (before, after):
        assert control_page.decode_route(mixed) is None


@pytest.mark.parametrize(
    ("generation", "route"),
    [
        (0, Route("none")),
        (1, Route("explode")),
        (1, Route("failover", "x" * 65)),
        (1, Route("failover", "é" * 33)),
        (1, Route("failover", "v1", float("inf"))),
        (1, Route("failover", "v1", 1.0, -1)),
        (1, Route("failover", "v1", 1.0, 1, "x" * 65)),
    ],
)
def test_a_route_that_no_runtime_would_take_is_not_written(generation: int, route: Route) -> None:
    with pytest.raises(ValueError, match="cannot be obeyed"):
        control_page.encode_route(generation, route)


@pytest.mark.parametrize(("at", "value"), [(4, 9), (24, 65), (25, 65), (32, 0xFF)])
def test_a_route_with_a_right_checksum_and_senseless_bytes_is_not_read(at: int, value: int) -> None:
    data = bytearray(control_page.encode_route(1, Route("failover", "v1", 1.0, 1, "d")))
    data[at] = value
    data[252:] = struct.pack("<I", zlib.crc32(bytes(data[:252])))
    assert control_page.decode_route(bytes(data)) is None


def test_a_page_of_another_kind_version_or_length_is_refused() -> None:
    page = control_page.encode_page(TOKEN)
    assert _reason(control_page.decode_page, page[:-1]) == "truncated"
    assert _reason(control_page.decode_page, b"x" + page[1:]) == "wrong_magic"
    assert _reason(control_page.decode_page, page[:8] + b"\2\0" + page[10:]) == "unsupported_version"
    assert _reason(control_page.decode_page, page[:12] + b"\1\0\0\0" + page[16:]) == "malformed"
