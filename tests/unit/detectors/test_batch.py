"""Messages to arrays: whatever an agent may send, it is used or refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from detection import MANIFEST, layer_block, message
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.batch import Executions, executions_of
from layerwatch.detectors.scorer import Scorer
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock

NOT_TIMES = [float("nan"), float("inf"), float("-inf"), -1.0]


def reason_of(**changes: Any) -> str:
    with pytest.raises(InvalidRecord) as error:
        executions_of(message(**changes), MANIFEST)
    return error.value.reason


def column(value: float, dtype: str, n: int = 4, fill: float = 1.0) -> bytes:
    values = np.full(n, fill, dtype)
    values[n // 2] = value
    return values.tobytes()


def counters(place: int, value: float) -> bytes:
    row = np.ones((2, len(COUNTER_COLUMNS)))
    row[1, place] = value
    return row.tobytes()


def test_a_good_message_comes_out_as_its_columns() -> None:
    times_ms = np.arange(1, 7, dtype="<f4")
    block = layer_block(2, rows=np.array([1, 3], "<u4").tobytes(), times_ms=times_ms.tobytes())
    flags = np.array([0, 1, 2, 5], "u1").tobytes()
    got = executions_of(message(layers=[block], flags=flags, rate=0.5), MANIFEST)
    assert len(got) == 4
    assert got.end_to_end_ms.tolist() == [2, 2, 2, 2]
    assert got.switched.tolist() == [False, True, False, True]
    assert got.layers[0].rows.tolist() == [1, 3]
    assert got.layers[0].times_ms.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert got.counters.shape == (1, 14)
    assert (got.rate, got.clock_s) == (0.5, 1001.0)


def test_a_heartbeat_without_executions_is_good() -> None:
    got = executions_of(message(executions=0, shapes=[], layers=[], counters=b""), MANIFEST)
    assert len(got) == 0


def test_flags_may_be_left_out() -> None:
    assert not executions_of(message(flags=b""), MANIFEST).switched.any()


@pytest.mark.parametrize("rate", [float("nan"), -1.0, 0.0, 7.0])
def test_an_impossible_sampling_rate_counts_as_everything_sampled(rate: float) -> None:
    assert executions_of(message(rate=rate), MANIFEST).rate == 1.0


@pytest.mark.parametrize("value", [*NOT_TIMES, 1e300])
def test_a_time_that_is_none_is_refused(value: float) -> None:
    assert reason_of(times_s=column(value, "<f8")) == "bad_time"


@pytest.mark.parametrize("value", [*NOT_TIMES, 0.0, 1e9])
def test_an_end_to_end_time_that_is_none_is_refused(value: float) -> None:
    assert reason_of(end_to_end_ms=column(value, "<f4")) == "bad_time"


@pytest.mark.parametrize("value", [*NOT_TIMES, 1e9])
def test_a_layer_time_that_is_none_is_refused(value: float) -> None:
    assert reason_of(layers=[layer_block(4, times_ms=column(value, "<f4", 12))]) == "bad_time"


@pytest.mark.parametrize("value", [*NOT_TIMES, 1e300])
@pytest.mark.parametrize("end", ["window_start_s", "window_end_s"])
def test_a_window_that_is_none_is_refused(end: str, value: float) -> None:
    assert reason_of(**{end: value}) == "bad_time"


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    assert reason_of(window_start_s=5.0, window_end_s=4.0) == "bad_time"


@pytest.mark.parametrize("value", [*NOT_TIMES, 1e300])
def test_counters_without_a_time_are_refused(value: float) -> None:
    assert reason_of(counters=counters(0, value)) == "bad_time"


@pytest.mark.parametrize("value", [float("inf"), -1e300])
def test_an_infinite_counter_is_refused(value: float) -> None:
    assert reason_of(counters=counters(1, value)) == "bad_column"


def test_a_counter_that_the_gpu_does_not_have_is_no_error() -> None:
    got = executions_of(message(counters=counters(8, float("nan"))), MANIFEST)
    assert np.isnan(got.counters[1, 8])


@pytest.mark.parametrize("layers", [0, 2, 4, 300])
def test_another_number_of_layers_than_the_manifest_has_is_refused(layers: int) -> None:
    times_ms = np.ones(4 * layers, "<f4").tobytes()
    assert reason_of(layers=[layer_block(4, layers=layers, times_ms=times_ms)]) == "layer_count"


def test_a_profile_that_the_manifest_does_not_have_is_refused() -> None:
    assert reason_of(layers=[layer_block(4, profile=2)]) == "unknown_profile"


@pytest.mark.parametrize("rows", [[0, 1, 2, 4], [0, 1, 1, 2], [3, 2, 1, 0], [0, 1, 2, 2**32 - 1]])
def test_rows_that_do_not_ascend_within_the_message_are_refused(rows: list[int]) -> None:
    assert reason_of(layers=[layer_block(4, rows=np.array(rows, "<u4").tobytes())]) == "bad_column"


@pytest.mark.parametrize(
    ("name", "size"),
    [("times_s", 8), ("end_to_end_ms", 4), ("shape_index", 2), ("profile_index", 1), ("flags", 1)],
)
def test_columns_of_different_lengths_are_refused(name: str, size: int) -> None:
    whole = getattr(message(), name)
    assert reason_of(**{name: whole[:-size]}) == "bad_column"
    assert reason_of(**{name: whole + whole[:size]}) == "bad_column"


@pytest.mark.parametrize("name", ["times_s", "end_to_end_ms", "shape_index", "counters"])
def test_a_column_that_is_cut_within_a_number_is_refused(name: str) -> None:
    assert reason_of(**{name: getattr(message(), name)[:-1]}) == "bad_column"


@pytest.mark.parametrize("name", ["rows", "times_ms"])
def test_a_layer_column_of_another_length_is_refused(name: str) -> None:
    whole = getattr(layer_block(4), name)
    assert reason_of(layers=[layer_block(4, **{name: whole[:-4]})]) == "bad_column"
    assert reason_of(layers=[layer_block(4, **{name: whole[:-1]})]) == "bad_column"


def test_counters_that_are_no_rows_are_refused() -> None:
    assert reason_of(counters=counters(0, 1.0)[:-8]) == "bad_column"


@pytest.mark.parametrize(
    "shapes",
    [
        [],
        [{}],
        [{"x": []}],
        [{"x": [1, -1]}],
        [{"x": [0, 128]}],
        [{"x": [1, 0]}],
        [{"x": [2**40, 8]}],
        [{"x": [1, 128]}, {}],
    ],
)
def test_a_shape_that_is_none_is_refused(shapes: list[dict[str, list[int]]]) -> None:
    assert reason_of(shapes=shapes) == "bad_column"


def test_an_optional_input_may_be_empty_or_a_scalar() -> None:
    shape = {"ids": [4, 128], "past": [4, 0], "scale": []}
    assert executions_of(message(shapes=[shape]), MANIFEST).shapes == [shape]


def test_a_shape_index_outside_of_the_shapes_is_refused() -> None:
    assert reason_of(shape_index=np.array([0, 0, 1, 0], "<u2").tobytes()) == "bad_column"


def test_layers_of_a_profile_that_has_none_are_refused() -> None:
    manifest = Manifest(engine="sha256:1", profiles=[ProfileLayers(0, [])])
    with pytest.raises(InvalidRecord) as error:
        executions_of(message(layers=[LayerBlock(0, 0, layer_block(4).rows, b"")]), manifest)
    assert error.value.reason == "layer_count"


blobs = st.binary(max_size=48)
some_floats = st.lists(st.floats(width=32), max_size=4).map(lambda v: np.array(v, "<f4").tobytes())
some_doubles = st.lists(st.floats(), max_size=4).map(lambda v: np.array(v, "<f8").tobytes())
some_rows = st.lists(st.integers(0, 5), max_size=4).map(lambda v: np.array(v, "<u4").tobytes())
good = message()
changes = st.fixed_dictionaries(
    {},
    optional={
        "times_s": blobs | some_doubles,
        "end_to_end_ms": blobs | some_floats,
        "shape_index": blobs,
        "profile_index": blobs,
        "flags": blobs,
        "counters": blobs | st.binary(min_size=112, max_size=112),
        "rate": st.floats(),
        "window_start_s": st.floats(),
        "window_end_s": st.floats(),
        "shapes": st.lists(
            st.dictionaries(st.text(max_size=2), st.lists(st.integers(-1, 2**63), max_size=3), max_size=2),
            max_size=2,
        ),
        "layers": st.lists(
            st.builds(
                LayerBlock,
                profile=st.integers(-1, 2),
                layers=st.integers(-1, 4),
                rows=blobs | some_rows,
                times_ms=blobs | some_floats,
            ),
            max_size=2,
        ),
    },
)


def taken(change: dict[str, Any]) -> Executions | None:
    try:
        return executions_of(msgspec.structs.replace(good, **change), MANIFEST)
    except InvalidRecord:
        return None


@settings(max_examples=120)
@given(changes)
def test_whatever_is_in_the_columns_is_used_or_refused_and_never_anything_else(
    change: dict[str, Any],
) -> None:
    got = taken(change)
    if got is not None:
        n = len(got)
        assert len(got.shape) == len(got.profile) == len(got.switched) == len(got.end_to_end_ms) == n
        assert np.isfinite(got.end_to_end_ms).all()


@settings(max_examples=60)
@given(st.lists(changes, min_size=1, max_size=3))
def test_the_scorer_takes_whatever_is_not_refused(several: list[dict[str, Any]]) -> None:
    scorer = Scorer({MANIFEST.engine: MANIFEST})
    for sequence in range(20):
        scorer.update(message(sequence, executions=8))  # enough for baselines
    for change in several:
        if taken(change) is not None:
            scorer.update(msgspec.structs.replace(good, **change))
    scorer.update(message(21))
    Scorer.restore(
        "i", {MANIFEST.engine: MANIFEST}, scorer.models, scorer.hot(), scorer.heavy(), scorer.slow()
    )


def test_a_manifest_may_name_more_profiles_than_run() -> None:
    manifest = Manifest(engine="sha256:1", profiles=[*MANIFEST.profiles, ProfileLayers(7, [Layer("z")])])
    assert len(executions_of(message(), manifest)) == 4
