"""For tests of builds: a second build made of real executions of the first, under other names and with other times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.groups import group_of
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch

SECOND = "sha256:5ec0d" + "0" * 59


def keep(names: list[str]) -> list[str]:
    return names


@dataclass(frozen=True)
class Rebuild:
    """What is made of a build's layers: other `names`, times multiplied by `factor` (block, layer, elements), and
    pairs of neighbours (first index of each) that become one layer."""

    names: Callable[[list[str]], list[str]] = keep
    factor: Callable[[str, int, int], float] = lambda block, layer, elements: 1.0
    fused: Sequence[int] = field(default=())


def rebuilt(made: Recording, from_s: float, change: Rebuild) -> tuple[list[Manifest], list[ProfileBatch]]:
    """A recording's first build until `from_s` seconds, and then its executions as those of the second build."""
    first = next(m for m in made.manifests if m.engine == made.batches[0].engine)
    second = msgspec.structs.replace(
        first, engine=SECOND, profiles=[_renamed(profile, change) for profile in first.profiles]
    )
    blocks = {
        profile.profile: [group_of(layer.name).split("/")[0] for layer in profile.layers]
        for profile in first.profiles
    }
    batches = []
    for batch in made:
        if batch.engine == first.engine:
            later = batch.window_start_s - made.start_s >= from_s
            batches.append(_changed(batch, blocks, change) if later else batch)
    return [first, second], _in_sequence(batches)


def _renamed(profile: ProfileLayers, change: Rebuild) -> ProfileLayers:
    names = change.names([layer.name for layer in profile.layers])
    names = [
        f"{name} + {names[i + 1]}" if i in change.fused else name
        for i, name in enumerate(names)
        if i - 1 not in change.fused
    ]
    return ProfileLayers(profile.profile, [Layer(name, group_of(name)) for name in names])


def _changed(batch: ProfileBatch, blocks: dict[int, list[str]], change: Rebuild) -> ProfileBatch:
    shape = np.frombuffer(batch.shape_index, "<u2")
    elements = [max(int(np.prod(dims)) for dims in s.values()) for s in batch.shapes]
    end_to_end_ms = np.frombuffer(batch.end_to_end_ms, "<f4").copy()
    layers = []
    for block in batch.layers:
        rows = np.frombuffer(block.rows, "<u4")
        times_ms = np.frombuffer(block.times_ms, "<f4").reshape(len(rows), block.layers)
        factors = np.array(
            [
                [change.factor(name, i, elements[shape[row]]) for i, name in enumerate(blocks[block.profile])]
                for row in rows
            ]
        ).reshape(times_ms.shape)
        slower = (times_ms * factors).astype("<f4")
        end_to_end_ms[rows] += (slower - times_ms).sum(1)
        for i in change.fused:
            slower[:, i] += slower[:, i + 1]
        slower = np.delete(slower, [i + 1 for i in change.fused], axis=1)
        layers.append(LayerBlock(block.profile, slower.shape[1], block.rows, slower.tobytes()))
    return msgspec.structs.replace(
        batch, engine=SECOND, layers=layers, end_to_end_ms=end_to_end_ms.astype("<f4").tobytes()
    )


def _in_sequence(batches: list[ProfileBatch]) -> list[ProfileBatch]:
    return [msgspec.structs.replace(batch, sequence=i) for i, batch in enumerate(batches)]
