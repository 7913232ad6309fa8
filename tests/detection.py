"""For tests of the detection core: recordings, small made-up messages, and how alerts compare with what was injected."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.models import Models, shipped
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.evaluation.verdict import Judgement, judge
from layerwatch.recording.npz import read_npz
from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, ProfileBatch
from layerwatch.schemas.signals import Signal

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))

ENGINE = "sha256:1"
MANIFEST = Manifest(
    engine=ENGINE,
    service="s",
    profiles=[ProfileLayers(0, [Layer("a"), Layer("b"), Layer("c")]), ProfileLayers(1, [Layer("a")])],
)


@lru_cache(maxsize=8)
def recording(name: str) -> Recording:
    return read_npz(DATA / f"{name}.npz")


@lru_cache(maxsize=1)
def models() -> Models:
    return shipped()


def stage_for(made: Recording) -> InstanceStage:
    return InstanceStage({manifest.engine: manifest for manifest in made.manifests}, models())


def signals_of(stage: InstanceStage, batches: Iterable[ProfileBatch]) -> list[Signal]:
    return [signal for batch in batches if (signal := stage.update(batch)) is not None]


@lru_cache(maxsize=8)
def signals(name: str) -> list[Signal]:
    """What a recording's instance says, from its beginning to its end."""
    made = recording(name)
    return signals_of(stage_for(made), made)


def message(sequence: int = 0, executions: int = 4, **changes: Any) -> ProfileBatch:
    """A good message of MANIFEST's engine, with `changes` to its fields; all executions sampled, of profile 0."""
    n = executions
    start_s = 1000.0 + sequence
    good = ProfileBatch(
        service="s",
        instance="i",
        boot_ms=1,
        sequence=sequence,
        engine=ENGINE,
        window_start_s=start_s,
        window_end_s=start_s + 1,
        shapes=[{"x": [1, 128]}],
        times_s=(start_s + np.arange(1, n + 1) / (n + 1)).astype("<f8").tobytes(),
        shape_index=np.zeros(n, "<u2").tobytes(),
        profile_index=np.zeros(n, "u1").tobytes(),
        flags=np.zeros(n, "u1").tobytes(),
        end_to_end_ms=np.full(n, 2.0, "<f4").tobytes(),
        layers=[layer_block(n)],
        counters=np.array([[start_s + 0.5, *[10.0] * (len(COUNTER_COLUMNS) - 1)]], "<f8").tobytes(),
    )
    return msgspec.structs.replace(good, **changes)


def layer_block(executions: int, **changes: Any) -> LayerBlock:
    good = LayerBlock(
        profile=0,
        layers=3,
        rows=np.arange(executions, dtype="<u4").tobytes(),
        times_ms=np.full((executions, 3), 0.5, "<f4").tobytes(),
    )
    return msgspec.structs.replace(good, **changes)


def judged(made: Recording, told: Iterable[Signal]) -> Judgement:
    """What an instance's signals come to as alerts of its service, compared with what was injected."""
    service = ServiceStage(made.name, silence_s=float("inf"))
    return judge(made.phases, [alert for signal in told for alert in service.update(signal, now_s=0.0)])


def caught(judgement: Judgement) -> list[str]:
    """Names of the faults that were caught."""
    return [verdict.phase.name for verdict in judgement.faults if verdict.caught]


def blobs_of(values: F64, dtype: str) -> bytes:
    return values.astype(dtype).tobytes()
