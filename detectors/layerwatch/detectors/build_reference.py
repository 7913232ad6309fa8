"""What a build costs, as another build is held against it: baselines of its layers, and how its blocks drifted last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import Bools, Ints, State, some
from layerwatch.detectors.baseline import ShapeBaseline
from layerwatch.detectors.block_levels import BlockLevels, contrasts, size_of
from layerwatch.detectors.end_to_end import EndToEnd
from layerwatch.detectors.layer_match import blocks_in_order
from layerwatch.detectors.layer_watch import JUDGED, TIME
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.shapes import Point
from layerwatch.schemas.engines import Layer, Manifest

_SETTLED_STRIDE = 4  # once enough is known, one message of so many is looked at
_LEVELS = 8  # of a size, for another build to be held against them
_SHARE = 0.95  # of the executions have sizes with so many


class OwnLevels:
    """How the blocks of a build move against its own baseline while it is healthy: what another build's may be called."""

    def __init__(self, layers: list[Layer]) -> None:
        block = blocks_in_order(layers)
        self.blocks = list(dict.fromkeys(block))
        self._member = np.array([[b == name for name in self.blocks] for b in block], float)
        self.levels = BlockLevels(len(self.blocks) + 1)
        self._turn = 0
        self._counts: Counter[int] = Counter()  # executions, by size
        self._total = self._known = 0  # of them, and of the sizes that enough is known of
        self._known_sizes: set[int] = set()

    @property
    def stands(self) -> bool:
        """Whether enough is known of the sizes that nearly all executions have, to hold another build against it."""
        return self._known >= _SHARE * self._total > 0

    def _know(self, sizes: Iterable[int]) -> None:
        """Count those of the sizes that enough is known of by now."""
        for size in set(sizes) - self._known_sizes:
            if self.levels.known(size) >= _LEVELS:
                self._known_sizes.add(size)
                self._known += self._counts[size]

    def learn(self, sampled: Sampled, points: list[Point], shape: Ints, healthy: Bools) -> None:
        """Fold in those of the sampled executions ([k], with their `shape` in `points`) that are `healthy` and judged."""
        rows = healthy & (sampled.features[:, JUDGED] > 0)
        if some(rows):
            self._turn = (self._turn + 1) % _SETTLED_STRIDE
            sizes = np.array([size_of(point) for point in points])[shape[rows]]
            each = sizes.tolist()
            for size in each:
                self._counts[size] += 1
                self._known += size in self._known_sizes
            self._total += len(each)
            if self._turn and self.levels.settled(sizes):
                return
            observed, expected = (
                sampled.times_ms[rows] @ self._member,
                sampled.expected_ms[rows] @ self._member,
            )
            self.levels.push(sampled.features[rows, TIME], sizes, contrasts(observed, expected))
            self._know(each)

    def state(self) -> State:
        return {"levels": self.levels.state(), "turn": self._turn, "counts": list(self._counts.items())}

    @classmethod
    def restore(cls, layers: list[Layer], state: State) -> OwnLevels:
        self = cls(layers)
        self._turn = state["turn"]
        self._counts.update(dict(state["counts"]))
        self._total = self._counts.total()
        levels = BlockLevels.restore(state["levels"])
        if levels.width == self.levels.width:
            self.levels = levels
        self._know(self._counts)
        return self


@dataclass(frozen=True, slots=True)
class LaneReference:
    """Of one optimization profile: `levels` has a column for each of `blocks`, and one for what they share."""

    layers: list[Layer]
    baseline: ShapeBaseline
    blocks: list[str]
    levels: BlockLevels


@dataclass(frozen=True, slots=True)
class BuildReference:
    """Not to be changed by whoever compares with it."""

    engine: str
    end_to_end: EndToEnd
    lanes: dict[int, LaneReference]


def layers_of(manifest: Manifest) -> dict[int, list[Layer]]:
    """Layers of each optimization profile."""
    return {profile.profile: profile.layers for profile in manifest.profiles}
