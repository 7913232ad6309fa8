"""Messages for the benchmarks, made from the real timings of resnet50-h200."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from layerwatch.recording.npz import read_npz
from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import Manifest, ProfileLayers
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch

LAYERS = 150
SAMPLED = 64

RECORDING = Path(__file__).resolve().parents[1] / "data" / "resnet50-h200.npz"


def recording() -> Recording:
    return read_npz(RECORDING)


@lru_cache(maxsize=1)
def healthy_columns() -> tuple[Manifest, dict[str, np.ndarray]]:
    """The first healthy phase: a manifest of 150 layers, and the columns of its executions."""
    source = recording()
    (manifest,) = source.manifests
    end_s = source.phases[0].end_s
    batches = [b for b in source if b.window_end_s <= end_s and b.end_to_end_ms]
    columns = {
        "shape": np.concatenate([_shapes(b) for b in batches]),
        "end_to_end_ms": np.concatenate([np.frombuffer(b.end_to_end_ms, "<f4") for b in batches]),
        "layers_ms": np.concatenate(
            [np.frombuffer(b.layers[0].times_ms, "<f4").reshape(-1, b.layers[0].layers) for b in batches]
        )[:, :LAYERS],
    }
    cut = ProfileLayers(0, manifest.profiles[0].layers[:LAYERS])
    return msgspec.structs.replace(manifest, profiles=[cut]), columns


def messages(
    instance: str,
    service: str,
    *,
    count: int,
    executions: int,
    sampled: int,
    start_s: float,
    boot_ms: int,
    offset: int,
) -> Iterator[ProfileBatch]:
    """`count` messages of a second each, the executions evenly over it; the first `sampled` of each with layers."""
    manifest, columns = healthy_columns()
    total = len(columns["shape"])
    for sequence in range(count):
        begin = (offset + sequence * executions) % total
        rows = np.arange(begin, begin + executions) % total
        batches, shape_index = np.unique(columns["shape"][rows], return_inverse=True)
        window_s = start_s + sequence
        yield ProfileBatch(
            service=service,
            instance=instance,
            boot_ms=boot_ms,
            sequence=sequence,
            engine=manifest.engine,
            window_start_s=window_s,
            window_end_s=window_s + 1.0,
            shapes=[{"input": [int(b), 224]} for b in batches],
            times_s=(window_s + (np.arange(executions) + 1) / executions).astype("<f8").tobytes(),
            shape_index=shape_index.astype("<u2").tobytes(),
            profile_index=bytes(executions),
            flags=bytes(executions),
            end_to_end_ms=columns["end_to_end_ms"][rows].astype("<f4").tobytes(),
            layers=[
                LayerBlock(
                    profile=0,
                    layers=LAYERS,
                    rows=np.arange(sampled, dtype="<u4").tobytes(),
                    times_ms=np.ascontiguousarray(columns["layers_ms"][rows[:sampled]]).tobytes(),
                )
            ],
            rate=sampled / executions,
        )


def manifest() -> Manifest:
    return healthy_columns()[0]


def _shapes(batch: ProfileBatch) -> np.ndarray:
    index = np.frombuffer(batch.shape_index, "<u2")
    batches = np.array([shape["input"][0] for shape in batch.shapes])
    return np.asarray(batches[index])


def renamed(batch: ProfileBatch, name: str) -> ProfileBatch:
    """As of another service's instance."""
    return msgspec.structs.replace(batch, service=name, instance=f"{name}-0")
