"""Models as bytes: what comes from a topic is used, or refused as an invalid record."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from sklearn.ensemble import IsolationForest

from layerwatch.detectors.forecast import Lstm, LstmWeights
from layerwatch.detectors.forest import FlatForest
from layerwatch.detectors.models import (
    LSTM_SCHEMA,
    SLOW_SCHEMA,
    Models,
    forest_bytes,
    forest_from,
    lstm_bytes,
    lstm_from,
    shipped,
    updated,
    withdrawn,
)
from layerwatch.detectors.pooled import NAMES, SCHEMA
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.models import ModelRecord
from layerwatch.training.fit_forest import flatten

ROWS = np.random.default_rng(0).standard_normal((60, len(NAMES)))
FOREST = flatten(IsolationForest(n_estimators=4, max_samples=20, random_state=0).fit(ROWS))
DRAW = np.random.default_rng(1)
LSTM = LstmWeights(
    input=DRAW.standard_normal(12),
    recurrent=DRAW.standard_normal((12, 3)),
    bias=DRAW.standard_normal(12),
    head=DRAW.standard_normal(3),
    head_bias=0.1,
    scale=0.05,
)


def forest_arrays(**changes: Any) -> bytes:
    nodes = {name: getattr(FOREST, name) for name in ("feature", "split", "left", "right", "path", "roots")}
    scalars = np.array([FOREST.normaliser, FOREST.depth, FOREST.threshold])
    return bytes(save({**nodes, "scalars": scalars, **changes}))


def lstm_arrays(**changes: Any) -> bytes:
    names = ("input", "recurrent", "bias", "head")
    arrays = {name: getattr(LSTM, name) for name in names} | {"scalars": np.array([0.1, 0.05])}
    return bytes(save({**arrays, **changes}))


def test_a_forest_survives_the_way_to_bytes_and_back() -> None:
    back = forest_from(forest_bytes(FOREST))
    assert back.score(ROWS).tolist() == FOREST.score(ROWS).tolist()
    assert (back.depth, back.threshold) == (FOREST.depth, FOREST.threshold)


def test_an_lstm_survives_the_way_to_bytes_and_back_in_single_precision() -> None:
    back = lstm_from(lstm_bytes(LSTM))
    for name in ("input", "recurrent", "bias", "head", "head_bias", "scale"):
        assert getattr(back, name) == pytest.approx(getattr(LSTM, name), rel=1e-6)


def test_the_shipped_models_read_the_features_of_this_version() -> None:
    models = shipped()
    assert models.forest is not None
    assert models.lstm is not None
    assert models.slow_lstm is not None
    assert models.forest.feature.max() < len(NAMES)
    assert 0.4 < models.forest.threshold < 1


N = len(FOREST.feature)


@pytest.mark.parametrize(
    "changes",
    [
        {"left": np.full(N, N)},
        {"right": np.full(N, -1)},
        {"roots": np.array([N])},
        {"roots": np.array([-1])},
        {"roots": np.array([], np.int64)},
        {"roots": np.array([[0]])},
        {"feature": np.full(N, len(NAMES))},
        {"feature": np.full(N, -2)},
        {"split": np.full(N, np.nan)},
        {"path": np.full(N, np.inf)},
        {"path": np.full(N - 1, 1.0)},
        {"left": np.zeros((N, 2), np.int64)},
        {"left": FOREST.left + 0.5},
        {"left": np.array(3)},
        {"feature": np.array([], np.int64)},
        {"scalars": np.array([1.0, 2.0])},
        {"scalars": np.array(1.0)},
        {"scalars": np.array([[4.0, 8.0, 0.6]])},
        {"scalars": np.array([0.0, 8.0, 0.6])},
        {"scalars": np.array([-4.0, 8.0, 0.6])},
        {"scalars": np.array([4.0, 1e12, 0.6])},
        {"scalars": np.array([4.0, -1.0, 0.6])},
        {name: np.array([], FOREST.left.dtype) for name in ("feature", "split", "left", "right", "path")},
    ],
)
def test_arrays_that_are_no_forest_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord) as error:
        forest_from(forest_arrays(**changes))
    assert error.value.reason == "model_shape"


@pytest.mark.parametrize(
    "changes",
    [
        {"head": np.ones((3, 1))},
        {"head": np.array(1.0)},
        {"head": np.array([])},
        {"bias": np.ones(11)},
        {"bias": np.ones((12, 1))},
        {"input": np.ones((12, 1))},
        {"recurrent": np.ones((3, 12))},
        {"recurrent": np.full((12, 3), np.nan)},
        {"scalars": np.array([0.1])},
        {"scalars": np.array(0.1)},
        {"scalars": np.array([0.1, 0.0])},
        {"scalars": np.array([0.1, -1.0])},
        {"scalars": np.array([0.1, np.nan])},
    ],
)
def test_arrays_that_are_no_lstm_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord) as error:
        lstm_from(lstm_arrays(**changes))
    assert error.value.reason == "model_shape"


def test_a_forest_that_goes_in_circles_ends_all_the_same() -> None:
    nodes = np.arange(N)
    circle = forest_from(forest_arrays(left=(nodes + 1) % N, right=(nodes + 1) % N))
    assert np.isfinite(circle.score(ROWS)).all()


def used(data: bytes) -> None:
    """Read both ways; what is accepted must run."""
    for read in (forest_from, lstm_from):
        try:
            model: FlatForest | LstmWeights = read(data)
        except InvalidRecord:
            continue
        with np.errstate(all="ignore"):
            if isinstance(model, FlatForest):
                assert model.score(ROWS[:2]).shape == (2,)
            else:
                forecaster = Lstm(model)
                forecaster.update(1.0)
                forecaster.predict()


BYTES = [forest_bytes(FOREST), lstm_bytes(LSTM)]


@settings(max_examples=80)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    used(data)


@settings(max_examples=80)
@given(st.sampled_from(BYTES), st.data())
def test_truncated_models_are_refused(whole: bytes, data: st.DataObject) -> None:
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for read in (forest_from, lstm_from):
        with pytest.raises(InvalidRecord):
            read(cut)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(BYTES),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_models_with_other_bytes_in_them_are_refused_or_run(
    whole: bytes, changes: list[tuple[float, int]]
) -> None:
    tampered = bytearray(whole)
    for place, value in changes:
        tampered[int(place * len(whole))] = value
    used(bytes(tampered))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(BYTES),
    st.integers(8, 600),
    st.sampled_from([b"F8_E4M3", b"BF16", b"BOOL", b"U64", b"I8"]),
)
def test_types_that_numpy_does_not_have_are_refused_or_run(whole: bytes, place: int, name: bytes) -> None:
    at = whole.find(b'"dtype":"', place % 300)
    end = whole.find(b'"', at + 9)
    grown = whole[8 : at + 9] + name + whole[end:] if at > 0 else whole[8:]
    head = int.from_bytes(whole[:8], "little") + len(grown) - len(whole) + 8
    used(head.to_bytes(8, "little") + grown)


def record(key: str, features: str, tensors: bytes) -> ModelRecord:
    build, kind, stream = key.split("/")
    return ModelRecord(
        build=build, kind=kind, stream=stream, features=features, valid_from_s=0, tensors=tensors
    )


def test_a_published_model_takes_the_place_of_its_kind_only() -> None:
    before = shipped()
    after = updated(before, record("*/forest/pooled", SCHEMA, forest_bytes(FOREST)))
    assert (after.lstm, after.slow_lstm) == (before.lstm, before.slow_lstm)
    assert after.forest is not None
    assert after.forest.depth == FOREST.depth
    level = updated(after, record("*/lstm/level", LSTM_SCHEMA, lstm_bytes(LSTM)))
    assert (level.forest, level.slow_lstm) == (after.forest, before.slow_lstm)
    assert level.lstm is not None
    assert level.lstm.hidden == LSTM.hidden
    minutes = updated(after, record("*/lstm/minutes", SLOW_SCHEMA, lstm_bytes(LSTM)))
    assert (minutes.forest, minutes.lstm) == (after.forest, before.lstm)
    assert minutes.slow_lstm is not None
    assert minutes.slow_lstm.hidden == LSTM.hidden


def test_a_forest_of_one_build_serves_that_one_until_it_is_withdrawn() -> None:
    before = shipped()
    after = updated(before, record("a/forest/pooled", SCHEMA, forest_bytes(FOREST)))
    after = updated(after, record("b/forest/pooled", SCHEMA, forest_bytes(FOREST)))
    own = after.forest_of("a")
    assert own is not None
    assert own.depth == FOREST.depth
    assert after.forest_of("c") is before.forest
    withdrawn_a = withdrawn(after, "a/forest/pooled")
    assert withdrawn_a.forest_of("a") is before.forest
    assert withdrawn_a.forest_of("b") is after.forest_of("b")


@pytest.mark.parametrize(
    ("key", "features", "reason"),
    [
        ("*/forest/pooled", "other", "model_schema"),
        ("*/lstm/level", SLOW_SCHEMA, "model_schema"),
        ("*/lstm/minutes", LSTM_SCHEMA, "model_schema"),
        ("*/svm/pooled", SCHEMA, "unknown_model"),
        ("*/forest/level", SCHEMA, "unknown_model"),
        ("a/lstm/level", LSTM_SCHEMA, "unknown_model"),
    ],
)
def test_a_model_for_something_else_is_refused(key: str, features: str, reason: str) -> None:
    with pytest.raises(InvalidRecord) as error:
        updated(Models(), record(key, features, forest_bytes(FOREST)))
    assert error.value.reason == reason


def test_models_are_compared_by_identity_and_replaced_as_a_whole() -> None:
    assert dataclasses.replace(Models(forest=FOREST), lstm=LSTM).forest is FOREST
