"""For tests of the detection core: recordings, small made-up messages, and how alerts compare with what was injected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.models import Models, shipped
from layerwatch.recording.npz import read_npz
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, ProfileBatch
from layerwatch.schemas.signals import Signal

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))

#: An alert that opens up to so long after a fault's end is not a false one (s).
GRACE_S = 2.0

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Names of fault phases in which something opened, and openings in phases where nothing was wrong."""

    caught: list[str]
    missed: list[str]
    false_alarms: list[float]


def verdict(phases: list[Phase], opened_s: Iterable[float]) -> Verdict:
    """Compare the times at which alerts became warnings with what was injected."""
    opened = sorted(opened_s)
    faults = [phase for phase in phases if not phase.healthy]
    caught = [any(f.start_s <= t <= f.end_s for t in opened) for f in faults]
    return Verdict(
        [f.name for f, found in zip(faults, caught, strict=True) if found],
        [f.name for f, found in zip(faults, caught, strict=True) if not found],
        [t for t in opened if not any(f.start_s <= t <= f.end_s + GRACE_S for f in faults)],
    )


def openings(told: Iterable[Signal]) -> list[float]:
    """When each episode of severity warning or above opened."""
    found = {ep.id: ep.opened_s for signal in told for ep in signal.episodes if ep.severity != "info"}
    return list(found.values())


def naive_openings(made: Recording) -> list[float]:
    """What anyone would try first: three sigmas of an EWMA of end-to-end times, one for each shape."""
    level: dict[str, tuple[float, float, int]] = {}
    opened: list[float] = []
    last_s = -1e9
    for batch in made:
        times_s, values = np.frombuffer(batch.times_s), np.frombuffer(batch.end_to_end_ms, "<f4")
        for time_s, shape, value in zip(
            times_s, np.frombuffer(batch.shape_index, "<u2"), values, strict=True
        ):
            mean, variance, n = level.get(key := repr(batch.shapes[shape]), (float(value), 0.0, 0))
            if n > 30 and value - mean > 3 * variance**0.5:
                if time_s - last_s > GRACE_S:  # an alarm that goes on is one alarm
                    opened.append(float(time_s))
                last_s = float(time_s)
            step = float(value) - mean
            level[key] = mean + 0.05 * step, 0.95 * (variance + 0.05 * step**2), n + 1
    return opened


def blobs_of(values: F64, dtype: str) -> bytes:
    return values.astype(dtype).tobytes()
