"""Fitted models as arrays in safetensors, and the ones that are shipped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.forest import FlatForest
from layerwatch.detectors.pooled import NAMES, SCHEMA
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.models import ModelRecord

FOREST_STREAM = "pooled"
LSTM_STREAM = "level"
LSTM_SCHEMA = "level-1"
SLOW_STREAM = "minutes"
SLOW_SCHEMA = "minutes-1"

FOREST_FILE, LSTM_FILE, SLOW_FILE = FILES = (
    "forest.safetensors",
    "lstm.safetensors",
    "slow_lstm.safetensors",
)

#: Of a model that serves every build which has none of its own.
EVERY_BUILD = "*"

_NODES = ("feature", "split", "left", "right", "path")

#: A tree grown on 2^64 samples; deeper ones take for ever to score.
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Models:
    """What the scorer uses besides statistics; each may be missing.

    `forests`: by build, where one of its own is better. `lstm` forecasts levels of a second, `slow_lstm` those of a minute.
    `silenced`: channels whose findings are not heard, for a study of what the others catch without them.
    """

    forest: FlatForest | None = None
    lstm: LstmWeights | None = None
    slow_lstm: LstmWeights | None = None
    forests: Mapping[str, FlatForest] = field(default_factory=dict)
    silenced: frozenset[str] = frozenset()

    def forest_of(self, build: str) -> FlatForest | None:
        return self.forests.get(build, self.forest)


def shipped() -> Models:
    """The models that come with the package, fitted on healthy windows of several engines."""
    folder = resources.files("layerwatch.detectors") / "shipped"
    return Models(
        forest=forest_from((folder / FOREST_FILE).read_bytes()),
        lstm=lstm_from((folder / LSTM_FILE).read_bytes()),
        slow_lstm=lstm_from((folder / SLOW_FILE).read_bytes()),
    )


def updated(models: Models, record: ModelRecord) -> Models:
    """The models with a published one taken up; raises InvalidRecord when it does not fit this version's features."""
    everyone = record.build == EVERY_BUILD
    match record.kind, record.stream:
        case "forest", "pooled":
            _check_schema(record, SCHEMA)
            forest = forest_from(record.tensors)
            if everyone:
                return replace(models, forest=forest)
            return replace(models, forests={**models.forests, record.build: forest})
        case "lstm", "level" if everyone:
            _check_schema(record, LSTM_SCHEMA)
            return replace(models, lstm=lstm_from(record.tensors))
        case "lstm", "minutes" if everyone:
            _check_schema(record, SLOW_SCHEMA)
            return replace(models, slow_lstm=lstm_from(record.tensors))
    raise InvalidRecord(
        "unknown_model", f"{record.key}: */lstm/level, */lstm/minutes and BUILD/forest/pooled are known"
    )


def withdrawn(models: Models, key: str) -> Models:
    """The models without the forest of one build, whose record was deleted; a model of every build stays until replaced."""
    build = key.removesuffix(f"/forest/{FOREST_STREAM}")
    return replace(models, forests={name: forest for name, forest in models.forests.items() if name != build})


def _check_schema(record: ModelRecord, schema: str) -> None:
    if record.features != schema:
        raise InvalidRecord(
            "model_schema",
            f"{record.key} was fitted on features {record.features}, not {schema}: fit it anew",
        )


def forest_bytes(forest: FlatForest) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        "feature": forest.feature.astype(np.int16),
        "split": forest.split,
        "left": forest.left.astype(np.int32),
        "right": forest.right.astype(np.int32),
        "path": forest.path,
        "roots": forest.roots.astype(np.int32),
        "scalars": np.array([forest.normaliser, forest.depth, forest.threshold]),
    }
    return bytes(save(arrays, {"features": SCHEMA, "names": json.dumps(NAMES)}))


def forest_from(data: bytes) -> FlatForest:
    """Raises InvalidRecord for bytes that are no forest on this version's features."""
    a = _arrays(data, ("feature", "split", "left", "right", "path", "roots", "scalars"))
    if a["scalars"].shape != (3,) or any(a[key].ndim != 1 or not len(a[key]) for key in (*_NODES, "roots")):
        raise InvalidRecord("model_shape", "a forest's arrays are lists of nodes, roots and three scalars")
    nodes = len(a["feature"])
    if any(len(a[key]) != nodes for key in _NODES) or not _within(a["feature"], -1, len(NAMES)):
        raise InvalidRecord("model_shape", "the forest's arrays do not belong together")
    if not all(_within(a[key], 0, nodes) for key in ("left", "right", "roots")):
        raise InvalidRecord("model_shape", "the forest's nodes point outside of it")
    normaliser, depth, threshold = a["scalars"]
    if not (0 <= depth <= _DEEPEST and normaliser > 0 and (a["path"] >= 0).all()):
        raise InvalidRecord("model_shape", "the forest's depth or path lengths are none")
    ints = {key: a[key].astype(np.int64) for key in ("feature", "left", "right", "roots")}
    return FlatForest(
        split=a["split"],
        path=a["path"],
        normaliser=float(normaliser),
        depth=int(depth),
        threshold=float(threshold),
        **ints,
    )


def lstm_bytes(weights: LstmWeights) -> bytes:
    arrays = {
        "input": weights.input,
        "recurrent": weights.recurrent,
        "bias": weights.bias,
        "head": weights.head,
        "scalars": np.array([weights.head_bias, weights.scale]),
    }
    return bytes(
        save(
            {key: np.ascontiguousarray(a, np.float32) for key, a in arrays.items()}, {"features": LSTM_SCHEMA}
        )
    )


def lstm_from(data: bytes) -> LstmWeights:
    """Raises InvalidRecord for bytes that are no LSTM of ours."""
    a = _arrays(data, ("input", "recurrent", "bias", "head", "scalars"))
    hidden = a["head"].size
    shapes = {
        "head": (hidden,),
        "recurrent": (4 * hidden, hidden),
        "input": (4 * hidden,),
        "bias": (4 * hidden,),
    }
    if not hidden or a["scalars"].shape != (2,) or any(a[key].shape != shapes[key] for key in shapes):
        raise InvalidRecord("model_shape", "the LSTM's arrays do not belong together")
    head_bias, scale = a["scalars"].astype(np.float64)
    if scale <= 0:
        raise InvalidRecord("model_shape", "the LSTM's scale is not positive")
    wide = {key: a[key].astype(np.float64) for key in ("input", "recurrent", "bias", "head")}
    return LstmWeights(head_bias=float(head_bias), scale=float(scale), **wide)


def _arrays(data: bytes, keys: tuple[str, ...]) -> dict[str, F64]:
    try:
        arrays: dict[str, F64] = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:  # also unknown dtypes
        raise InvalidRecord("malformed", f"not safetensors: {error}") from error
    missing = [key for key in keys if key not in arrays]
    if missing or not all(np.isfinite(arrays[key]).all() for key in keys):
        raise InvalidRecord("model_shape", f"a model needs finite arrays {', '.join(keys)}")
    return arrays


def _within(values: F64, low: int, high: int) -> bool:
    return bool((values.astype(np.int64) == values).all() and values.min() >= low and values.max() < high)
