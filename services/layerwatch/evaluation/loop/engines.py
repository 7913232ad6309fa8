"""Simulated executions of two builds of one engine, as an agent would send them. Numbers are made up, their pattern is not:
it is that of the recorded faults (slices taken by another process; values past the calibrated range)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers, TensorRange
from layerwatch.schemas.profiles import COUNTER_COLUMNS, LayerBlock, PrecisionBlock, ProfileBatch

F64 = NDArray[np.float64]

LAYERS, TENSORS = 24, 4
_LAYER_MS, _HOST_MS, _NOISE = 1.0, 0.5, 0.03
_SLICED, _SLICES, _SLICE_MS = (
    0.8,
    3,
    6.0,
)  # of the executions beside another process; layers hit in each; ms a hit
_SAMPLED = 0.25
_CLIPPED, _ERROR = (0.0001, 0.05), (0.002, 0.17)  # healthy and drifted, as recorded on ResNet-50 in INT8


@dataclass(frozen=True, slots=True)
class Build:
    """A build by the name that runtimes know it by; `slowness` against INT8."""

    name: str
    engine: str
    slowness: float
    calibrated: bool

    def manifest(self, service: str) -> Manifest:
        layers = [
            Layer(f"/blocks.{i // 4}/op{i % 4}", f"blocks.{i // 4}", "op", self.name) for i in range(LAYERS)
        ]
        ranges = [TensorRange(f"t{i}", 1.0) for i in range(TENSORS)] if self.calibrated else []
        return Manifest(
            engine=self.engine, service=service, profiles=[ProfileLayers(0, layers)], ranges=ranges
        )


INT8 = Build("int8", "sha256:int8", 1.0, True)
FP16 = Build("fp16", "sha256:fp16", 1.2, False)


@dataclass(frozen=True, slots=True)
class Executed:
    """Executions of one instance in one window: layer times [n, LAYERS] and end to end [n], in ms."""

    layers_ms: F64
    end_to_end_ms: F64


def execute(build: Build, count: int, crowded: bool, rng: np.random.Generator) -> Executed:
    """`crowded`: another process takes slices of the GPU."""
    layers_ms = build.slowness * _LAYER_MS * rng.lognormal(0.0, _NOISE, (count, LAYERS))
    if crowded:
        for row in np.flatnonzero(rng.random(count) < _SLICED):
            layers_ms[row, rng.choice(LAYERS, _SLICES, replace=False)] += _SLICE_MS
    host_ms = _HOST_MS * rng.lognormal(0.0, 0.1, count)
    return Executed(layers_ms, layers_ms.sum(1) + host_ms)


def message(
    instance: str,
    place: tuple[int, int],
    build: Build,
    window_s: tuple[float, float],
    ends_s: F64,
    executed: Executed,
    *,
    crowded: bool,
    drifted: bool,
    leaving: bool,
    rng: np.random.Generator,
) -> ProfileBatch:
    """What the agent sends of a window (unix s); `place` is the boot (unix ms) and the number of the message."""
    n = len(ends_s)
    rows = np.flatnonzero(rng.random(n) < _SAMPLED)[:64]
    counters = np.full((2, len(COUNTER_COLUMNS)), 10.0)
    counters[:, 0] = np.linspace(window_s[0], window_s[1], 3)[1:]
    counters[:, 1] = 1980.0
    counters[:, 8] = rng.normal(85.0 if crowded else 40.0, 1.5, 2)
    return ProfileBatch(
        service="simulated",
        instance=instance,
        boot_ms=place[0],
        sequence=place[1],
        engine=build.engine,
        window_start_s=window_s[0],
        window_end_s=window_s[1],
        gpu=f"GPU-{instance}",
        state="leaving" if leaving else "serving" if n else "idle",
        shapes=[{"x": [1, 128]}],
        times_s=ends_s.astype("<f8").tobytes(),
        shape_index=np.zeros(n, "<u2").tobytes(),
        profile_index=np.zeros(n, "u1").tobytes(),
        flags=np.zeros(n, "u1").tobytes(),
        end_to_end_ms=executed.end_to_end_ms.astype("<f4").tobytes(),
        layers=[
            LayerBlock(
                0, LAYERS, rows.astype("<u4").tobytes(), executed.layers_ms[rows].astype("<f4").tobytes()
            )
        ],
        counters=counters.astype("<f8").tobytes(),
        precision=_precision(n, drifted, rng) if build.calibrated and n else None,
    )


def _precision(n: int, drifted: bool, rng: np.random.Generator) -> PrecisionBlock:
    clipped = _CLIPPED[drifted] * rng.lognormal(0.0, 0.2, (n, TENSORS))
    error = _ERROR[drifted] * rng.lognormal(0.0, 0.02, n)
    return PrecisionBlock(
        rows=np.arange(n, dtype="<u4").tobytes(),
        tensors=TENSORS,
        clipped=clipped.astype("<f4").tobytes(),
        peak_ratio=np.ones((n, TENSORS), "<f4").tobytes(),
        relative_l2=error.astype("<f4").tobytes(),
    )
