"""Two builds of one model, one optimization profile: what each block costs now against what it cost before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, State
from layerwatch.detectors.baseline import SUPPORT
from layerwatch.detectors.batch import Executions, LayerTimes
from layerwatch.detectors.block_levels import BlockLevels, Level, contrasts, size_of
from layerwatch.detectors.build_reference import LaneReference
from layerwatch.detectors.layer_match import BETWEEN, REST, Cell, blocks_of, match_layers
from layerwatch.detectors.layer_names import owner
from layerwatch.detectors.shapes import Point
from layerwatch.schemas.alerts import LayerExcess
from layerwatch.schemas.engines import Layer
from layerwatch.schemas.groups import group_of

#: A block within 8 % of what it cost is as it was: tactics are chosen by timing, so no two builds are the same.
LEAST_EFFECT = 0.08
SURE = 3.0  # standard errors
_NOISE_FLOOR = 0.01  # log units: a level is known no better
_LEVELS_FOR_ALL = 8
_LEVELS_FOR_DRIFT = 16  # of the old build: fewer have not shown yet how far its blocks drift
_TICK_MS = 1e-3  # a layer that did not exist before is no more than so many times as slow
_LEAST_RATIO = 1.1  # of a layer that is listed


@dataclass(frozen=True, slots=True)
class SizeDifference:
    """New less old, of one size of input; log units, [blocks] each, the whole engine (their common mode) last.

    `slower` and `equivalent` are the two one-sided tests against `margin`, the old build's own drift or 8 %; where both
    are False it is not yet known.
    """

    size: int
    share: float  # of the expected time of all executions compared
    steady: bool  # seen for long enough to tell the build from clocks, temperature and launches, which all blocks share
    drift_known: bool  # the old build was seen for long enough to tell how far its blocks drift
    difference: F64  # of contrasts
    ratio: F64  # of the times themselves
    error: F64
    margin: F64
    slower: Bools
    equivalent: Bools


class LaneComparison:
    """Sampled executions of the new build against the old one's baseline."""

    def __init__(self, reference: LaneReference, layers: list[Layer]) -> None:
        self._reference = reference
        self._layers = layers
        self._cells = match_layers(reference.layers, layers)
        self.blocks = blocks_of(self._cells)
        at = {block: i for i, block in enumerate(self.blocks)}
        self._block = np.array([at[cell.block] for cell in self._cells])
        self._old = _membership([cell.old for cell in self._cells], len(reference.layers))
        self._new = _membership([cell.new for cell in self._cells], len(layers))
        self._levels = BlockLevels(len(self.blocks) + 1)
        self._nothing = np.zeros((2, len(self._cells)))
        self._sums: dict[int, F64] = {}  # size: [2, cells] ms, observed and expected
        self._counts: dict[int, int] = {}
        self._known: dict[str, int] = {block: i for i, block in enumerate(reference.blocks)}

    @property
    def comparable(self) -> bool:
        """Whether this is the same model: most layers of either build do the work of layers of the other."""
        shared = [cell for cell in self._cells if cell.old and cell.new]
        old, new = sum(len(cell.old) for cell in shared), sum(len(cell.new) for cell in shared)
        return 2 * old >= len(self._reference.layers) and 2 * new >= len(self._layers)

    @property
    def named(self) -> Bools:
        """[blocks + 1] of which an answer is owed: the blocks with names, or all where no layer's name tells a block."""
        named = np.array([*(block not in (REST, BETWEEN) for block in self.blocks), False])
        return named if named.any() else np.ones(len(named), bool)

    @property
    def executions(self) -> int:
        """Sampled executions compared, of shapes that the old build knew."""
        return sum(self._counts.values())

    def add(self, batch: Executions, layers: LayerTimes, points: list[Point], fit: Bools) -> None:
        """`fit` [k]: sampled executions that nothing else disturbs."""
        if not self._reference.baseline.fitted:
            return
        shape = batch.shape[layers.rows]
        log_expected, seen = self._reference.baseline.expected(points)
        rows = fit & (seen[shape] >= SUPPORT)
        if not rows.any():
            return
        shape = shape[rows]
        observed = layers.times_ms[rows].astype(np.float64) @ self._new
        expected = (np.exp(log_expected) @ self._old)[shape]
        sizes = np.array([size_of(point) for point in points])[shape]
        for size in np.unique(sizes).tolist():
            mine = sizes == size
            sums = self._sums.setdefault(size, self._nothing.copy())
            sums += observed[mine].sum(0), expected[mine].sum(0)
            self._counts[size] = self._counts.get(size, 0) + int(mine.sum())
        self._levels.push(
            batch.times_s[layers.rows][rows],
            sizes,
            contrasts(self._by_block(observed), self._by_block(expected)),
        )

    def differences(self) -> list[SizeDifference]:
        """Of each size that both builds have served, by size."""
        whole = sum(float(sums[1].sum()) for sums in self._sums.values())
        found = []
        for size in sorted(self._sums):
            old, new = self._reference.levels.level(size), self._levels.level(size)
            if old is not None and new is not None:
                share = float(self._sums[size][1].sum()) / whole
                found.append(_difference(size, share, self._aligned(old), new))
        return found

    def share_of_blocks(self) -> F64:
        """[blocks + 1] of the expected time; 1 for the whole engine, 0 for what cannot be compared."""
        expected = self._by_block(np.sum([sums[1] for sums in self._sums.values()], axis=0)[None])[0]
        if BETWEEN in self.blocks:
            expected[self.blocks.index(BETWEEN)] = 0.0
        return np.append(expected / max(expected.sum(), 1e-9), 1.0)

    def weights(self, sizes: list[int]) -> F64:
        """[sizes, blocks + 1]: where the expected time of each block goes, over some sizes; columns add up to 1."""
        expected = self._by_block(np.array([self._sums[size][1] for size in sizes]))
        expected = np.column_stack((expected, expected.sum(1)))
        weights: F64 = expected / np.maximum(expected.sum(0), 1e-9)
        return weights

    def size_counts(self) -> dict[int, int]:
        return dict(self._counts)

    def layers(self, worst: dict[int, list[int]]) -> list[LayerExcess]:
        """Layers of some blocks (indices), over the sizes given for each, by what they cost more; a tenth at least."""
        found = []
        for block, sizes in worst.items():
            sizes = [size for size in sizes if size in self._sums]
            count = max(sum(self._counts[size] for size in sizes), 1)
            observed, expected = sum((self._sums[size] for size in sizes), self._nothing) / count
            for index in np.flatnonzero(self._block == block):
                cell = self._cells[index]
                if cell.new and observed[index] >= max(_LEAST_RATIO * expected[index], 1e-6):
                    found.append(self._excess(cell, float(observed[index]), float(expected[index])))
        return sorted(found, key=lambda layer: -layer.excess_ms)

    def _excess(self, cell: Cell, observed_ms: float, expected_ms: float) -> LayerExcess:
        """Of a cell, under the name of the new build's first layer in it that is no mere copy."""
        index = min(cell.new, key=lambda i: (owner(self._layers[i].name) is not None, i))
        layer = self._layers[index]
        return LayerExcess(
            name=layer.name,
            group=layer.group or group_of(layer.name) or cell.block,
            index=index,
            baseline_ms=round(expected_ms, 6),
            observed_ms=round(observed_ms, 6),
            ratio=round(observed_ms / max(expected_ms, _TICK_MS), 3),
            excess_ms=round(observed_ms - expected_ms, 6),
        )

    def _by_block(self, cells_ms: F64) -> F64:
        """[n, cells] to [n, blocks]"""
        out = np.zeros((len(cells_ms), len(self.blocks)))
        for block in range(len(self.blocks)):
            out[:, block] = cells_ms[:, self._block == block].sum(1)
        return out

    def _aligned(self, old: Level) -> Level:
        """The old build's level with this comparison's blocks; one that it did not have drifts as the worst of its own."""
        columns = [self._known.get(block) for block in self.blocks]
        worst = int(np.argmax(old.drift[:-1])) if len(old.drift) > 1 else 0
        at = [*(worst if column is None else column for column in columns), len(old.mean) - 1]
        known = np.array([*(column is not None for column in columns), True])
        return Level(np.where(known, old.mean[at], 0.0), old.variance[at], old.count, old.drift[at])

    def state(self) -> State:
        return {
            "levels": self._levels.state(),
            "sizes": list(self._sums),
            "counts": [self._counts[size] for size in self._sums],
            "sums": np.array([*self._sums.values()], np.float32).reshape(-1, *self._nothing.shape),
        }

    def load(self, state: State) -> None:
        """Go on from `state`; one of other layers is passed over."""
        sums = state["sums"].astype(np.float64)
        levels = BlockLevels.restore(state["levels"])
        if levels.width != self._levels.width or sums.shape[1:] != self._nothing.shape:
            return
        self._levels = levels
        self._sums = dict(zip(state["sizes"], sums, strict=True))
        self._counts = dict(zip(state["sizes"], state["counts"], strict=True))


def _membership(cells: list[tuple[int, ...]], layers: int) -> F64:
    """[layers, cells]: 1 where a layer is part of a cell."""
    out = np.zeros((layers, len(cells)))
    for column, members in enumerate(cells):
        out[list(members), column] = 1.0
    return out


def _difference(size: int, share: float, old: Level, new: Level) -> SizeDifference:
    pooled = ((old.count - 1) * old.variance + (new.count - 1) * new.variance) / (old.count + new.count - 2)
    error = np.sqrt(np.maximum(pooled, _NOISE_FLOOR**2) * (1 / old.count + 1 / new.count))
    margin = np.maximum(LEAST_EFFECT, old.drift)
    difference = new.mean - old.mean
    ratio = difference + np.append(np.full(len(difference) - 1, difference[-1]), 0.0)
    slower = is_slower(difference, ratio, error, margin)
    steady = min(old.count, new.count) >= _LEVELS_FOR_ALL
    slower[-1] &= steady and difference[-1] - SURE * error[-1] > 2 * margin[-1]
    return SizeDifference(
        size=size,
        share=share,
        steady=steady,
        drift_known=old.count >= _LEVELS_FOR_DRIFT,
        difference=difference,
        ratio=ratio,
        error=error,
        margin=margin,
        slower=slower,
        equivalent=is_equivalent(difference, error, margin),
    )


def is_slower(difference: F64, ratio: F64, error: F64, margin: F64) -> Bools:
    """Surely beyond the margin, and slower on the clock too: not only less fast than the other blocks."""
    slower: Bools = (difference - SURE * error > margin) & (ratio > LEAST_EFFECT)
    return slower


def is_equivalent(difference: F64, error: F64, margin: F64) -> Bools:
    """Surely within the margin, or faster."""
    equivalent: Bools = difference + SURE * error < margin
    return equivalent
