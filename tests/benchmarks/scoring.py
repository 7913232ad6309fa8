"""What scoring costs on one core, without Kafka, beside scikit-learn's forest and river's HalfSpaceTrees on the same data."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import load
import msgspec
import numpy as np
from river.anomaly import HalfSpaceTrees
from sklearn.ensemble import IsolationForest

from layerwatch.detectors.instance_stage import HEAVY, HOT, InstanceStage
from layerwatch.detectors.models import shipped
from layerwatch.detectors.pooled import NAMES
from layerwatch.detectors.scorer import Scorer
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.groups import group_of
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch
from layerwatch.training.fit_forest import flatten

_START_S = 1_800_000_000.0
_LAYERS_OF_TRANSFORMER = Path(__file__).resolve().parents[1] / "data" / "transformer12-h200.names.json.gz"
_SHAPES, _TICK_MS = 1000, 1e-3


def measures() -> Iterator[dict[str, Any]]:
    """Each with its `measure`, figures and input."""
    for executions, messages in ((64, 150), (1, 1500)):
        yield _update(executions, messages)
    yield _forest()
    yield _half_space_trees()
    yield _state()


def _update(executions: int, messages: int) -> dict[str, Any]:
    """From a decoded message to evidence, baselines known; the median of five instances' means."""
    spent_us = []
    for instance in range(5):
        scorer = Scorer({load.manifest().engine: load.manifest()}, shipped())
        for batch in _messages(instance, 64, 64):
            scorer.update(batch)
        made = list(_messages(instance, executions, messages, sequence=64))
        began_s = time.process_time()
        for batch in made:
            scorer.update(batch)
        spent_us.append((time.process_time() - began_s) / messages * 1e6)
    update_us = float(np.median(spent_us))
    return {
        "measure": "scoring",
        "cpu_us_per_message": round(update_us, 1),
        "cpu_us_per_execution": round(update_us / executions, 1),
        "input": f"messages of {executions}, all sampled, {load.LAYERS} layers, decoded message to evidence",
    }


def _messages(instance: int, executions: int, count: int, sequence: int = 0) -> Iterator[ProfileBatch]:
    made = load.messages(
        f"i{instance}",
        "s",
        count=count,
        executions=executions,
        sampled=executions,
        start_s=_START_S + sequence,
        boot_ms=1,
        offset=97 * instance + 64 * sequence,
    )
    for batch in made:
        yield msgspec.structs.replace(batch, sequence=batch.sequence + sequence)


def _forest() -> dict[str, Any]:
    """scikit-learn's forest and the same trees flattened."""
    rows = np.random.default_rng(0).normal(0, 1, (2000, len(NAMES)))
    fitted = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(rows[:1000])
    flat = flatten(fitted)
    difference = np.abs(flat.score(rows) + fitted.score_samples(rows)).max()
    return {
        "measure": "forest",
        "flattened_one_us": round(_median_us(lambda: flat.score(rows[:1]), 300), 1),
        "scikit_learn_one_us": round(_median_us(lambda: fitted.score_samples(rows[:1]), 100), 1),
        "flattened_64_us": round(_median_us(lambda: flat.score(rows[:64]), 100), 1),
        "scikit_learn_64_us": round(_median_us(lambda: fitted.score_samples(rows[:64]), 100), 1),
        "largest_difference": float(f"{difference:.1e}"),
        "input": f"100 trees, {len(NAMES)} features, one window and 64 at once",
    }


def _half_space_trees() -> dict[str, Any]:
    """river's detector, at its defaults, on each execution's layers."""
    _, columns = load.healthy_columns()
    rows = columns["layers_ms"][:200]
    names = [str(i) for i in range(rows.shape[1])]
    trees = HalfSpaceTrees(seed=0)
    executions = [dict(zip(names, row.tolist(), strict=True)) for row in rows]
    began_s = time.process_time()
    for execution in executions:
        trees.score_one(execution)
        trees.learn_one(execution)
    spent_us = (time.process_time() - began_s) / len(executions) * 1e6
    return {
        "measure": "half_space_trees",
        "cpu_us_per_execution": round(spent_us, 1),
        "input": f"river's defaults, {len(executions)} executions of {load.LAYERS} layers, scored and learnt one by one",
    }


def _state() -> dict[str, Any]:
    """An instance's state after many shapes of a large engine, as it is written."""
    manifest = _large_manifest()
    stage = InstanceStage({manifest.engine: manifest}, shipped())
    for batch in _large_messages(manifest, 320):
        stage.update(batch)
    parts = stage.dump(all=True)
    return {
        "measure": "state",
        "baselines_kib": round(len(parts[HEAVY]) / 1024),
        "hot_kib": round(len(parts[HOT]) / 1024),
        "input": f"{len(manifest.profiles[0].layers)} layers, {_SHAPES} shapes, {320 * 64} executions, compressed",
    }


def _large_manifest() -> Manifest:
    names = json.loads(gzip.decompress(_LAYERS_OF_TRANSFORMER.read_bytes()))["first"]
    layers = [Layer(name=name, group=group_of(name)) for name in names]
    return Manifest(engine="sha256:large", profiles=[ProfileLayers(0, layers)])


def _large_messages(manifest: Manifest, count: int) -> Iterator[ProfileBatch]:
    """Layers whose cost follows batch and length, each with its own noise, on the timer's tick."""
    rng = np.random.default_rng(0)
    layers = len(manifest.profiles[0].layers)
    shapes = np.column_stack((rng.choice((1, 2, 4, 8), _SHAPES), rng.integers(16, 513, _SHAPES)))
    base_ms, slope = rng.lognormal(-4.6, 0.6, layers), rng.uniform(0.0, 0.5, layers)
    for sequence in range(count):
        mine = shapes[rng.integers(0, _SHAPES, 64)]
        cost = (mine.prod(1) / 512.0)[:, None] ** slope * base_ms * rng.lognormal(0, 0.03, (64, layers))
        times_ms = np.maximum(np.round(cost / _TICK_MS), 1) * _TICK_MS
        yield ProfileBatch(
            service="s",
            instance="large",
            boot_ms=1,
            sequence=sequence,
            engine=manifest.engine,
            window_start_s=_START_S + sequence,
            window_end_s=_START_S + sequence + 1.0,
            shapes=[{"ids": shape.tolist()} for shape in mine],
            times_s=(_START_S + sequence + (np.arange(64) + 1) / 64).astype("<f8").tobytes(),
            shape_index=np.arange(64, dtype="<u2").tobytes(),
            profile_index=bytes(64),
            flags=bytes(64),
            end_to_end_ms=(times_ms.sum(1) + 0.2).astype("<f4").tobytes(),
            layers=[
                LayerBlock(0, layers, np.arange(64, dtype="<u4").tobytes(), times_ms.astype("<f4").tobytes())
            ],
            rate=1.0,
        )


def _median_us(call: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        began_s = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began_s)
    return float(np.median(spent)) * 1e6
