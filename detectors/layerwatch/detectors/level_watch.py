"""Watches the levels of single layers, of blocks of a model, and of all layers, for steps that last.

Levels are means over some eighty sampled executions of the log-ratio to the baseline, of the smaller and the larger half of
inputs apart: what hurts one half alone is half as large in both together. What layers share is taken out, so that 1.3 times
as long (0.26 log units) stands out on unsteady layers too: see `factors`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from layerwatch.detectors import layer_watch as column
from layerwatch.detectors.arrays import F64, Bools, Ints, State, clipped, masked_row_medians, some
from layerwatch.detectors.factors import SharedFactors
from layerwatch.detectors.level_shift import HALVES, LevelShift
from layerwatch.detectors.level_spread import LevelSpread
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.size_halves import SizeHalves
from layerwatch.schemas.engines import Layer

_BLOCK = 80  # sampled executions
_SMALL_BLOCK, _SMALL_BLOCK_S = 40, 1.5  # where they take so long, fewer are enough
_LEAST_OF_HALF = 15  # of them; fewer say nothing of a half
_CLIP = 1.0  # log units: one execution moves a level by no more than an eightieth of it
_WARM_UP = 6  # blocks
_MEMORY = 12  # blocks
_PROBATION = (
    2  # blocks that must follow without a shift before one is learnt from: else a step would explain itself
)
_MOST_DOUBTFUL = 20  # blocks
_CLIP_LAYER, _CLIP_COMMON = 0.5, 0.1  # log units that a block may tell the reference

#: Least effects (log units): a layer, a block of the model, all layers.
_LAYER, _GROUP, _COMMON = 0.10, 0.06, 0.07
#: In one block alone, which strays further by chance: reason to sample more, and to learn nothing from it.
_SUSPICIOUS = 0.15, 0.08, 0.07
#: And how many usual deviations: of many layers some stray further than the one common mode.
_LAYER_SPREADS, _GROUP_SPREADS, _COMMON_SPREADS = 5.0, 4.5, 4.0
_LEAST_EXCESS_MS = 2e-3  # two ticks of the GPU's timer
_MEASURED_MS = 2e-3  # an engine has many layers that take no time at all
_LONG_MS = 4e-3  # layers shorter than this are mostly rounding
_ONE_LAYER = 0.6  # of a group's excess: then it is that layer's


class _Block(NamedTuple):
    """A block that was judged. `levels` [2, layers + 1] of the halves that are `known` [2], the common mode last;
    `deviation` and `step` [3, series], of which `says` [3] rows mean something."""

    levels: F64
    known: Bools
    deviation: F64
    step: F64 | None
    says: Bools


class LevelWatch:
    """Channels `single_layer`, `layer_group` and `common_level` of one build and profile.

    A deviation from the reference (log units) has a row for all executions and one for each half, as in `HALVES`; a row has
    an element for each layer, then for each group, then for all layers.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._names = [layer.name for layer in layers]
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index, layer in enumerate(layers):
            if layer.group:
                members[layer.group.split("/")[0]].append(index)
        self._groups = list(members)
        self._members = [np.array(indices) for indices in members.values()]
        self._member = np.zeros((len(layers), len(members)))
        for group, indices in enumerate(members.values()):
            self._member[indices, group] = 1.0
        self._halves = SizeHalves()
        self._sums = np.zeros((2, 2, len(layers)))  # of each half: log-ratios, expected ms
        self._seen: Ints = np.zeros(2, np.int64)
        self._began_s = 0.0
        self._blocks: Ints = np.zeros(2, np.int64)  # that the references rest on
        self._reference = np.zeros((2, len(layers) + 1))
        self._limit = np.array([_CLIP_LAYER] * len(layers) + [_CLIP_COMMON])
        self._factors = SharedFactors(len(layers))
        counts = len(layers), len(members), 1
        least = np.repeat((_LAYER, _GROUP, _COMMON), counts)
        self._suspicious_from = np.repeat(_SUSPICIOUS, counts)
        spreads = np.repeat((_LAYER_SPREADS, _GROUP_SPREADS, _COMMON_SPREADS), counts)
        self._spread = LevelSpread(len(HALVES), least, spreads)
        self._previous: F64 | None = None
        self._previous_s = 0.0
        self._pending: list[_Block] = []
        self.shift: LevelShift | None = None  # as the latest block showed it
        self._since_s: float | None = None  # blocks in a row have shown one since then
        self.suspected = False  # the latest block alone would show a step: the next one decides
        self._suspicious = 0  # blocks in a row that do, or confirm one

    @property
    def doubtful(self) -> bool:
        """Whether what is sampled now is none to learn from: a step may have begun. One that stays becomes usual."""
        return 0 < self._suspicious <= _MOST_DOUBTFUL

    @property
    def settled(self) -> bool:
        """Whether it judges."""
        return some(self._spread.blocks >= _WARM_UP)

    def add(self, sampled: Sampled, healthy: bool) -> bool:
        """Fold in a message's executions; True at the end of a block, when `shift` is judged anew.

        `healthy`: no trouble is open, so that the block may be learnt from unless it shows a shift itself.
        """
        judged = sampled.features[:, column.JUDGED] > 0
        count = int(np.count_nonzero(judged))
        if not count:
            return False
        whole = count == len(judged)  # mostly; a copy of all would be waste
        expected_ms = sampled.expected_ms if whole else sampled.expected_ms[judged]
        log_ratio = sampled.log_ratio if whole else sampled.log_ratio[judged]
        sizes = sampled.sizes if whole else sampled.sizes[judged]
        self._halves.push(sizes)
        if not self._halves.stands:
            return False
        if not (self._seen[0] or self._seen[1]):
            self._began_s = float(sampled.features[judged, column.TIME][0])
        larger = self._halves.larger(sizes)
        large = int(np.count_nonzero(larger))
        log_ratio = clipped(log_ratio, _CLIP)
        if count == 1:  # a message of one: no matrices
            self._sums[large, 0] += log_ratio[0]
            self._sums[large, 1] += expected_ms[0]
        else:
            half = np.array((~larger, larger), float)
            self._sums[:, 0] += half @ log_ratio
            self._sums[:, 1] += half @ expected_ms
        self._seen += (count - large, large)
        lasted_s = float(sampled.features[-1, column.TIME]) - self._began_s
        if self._seen.sum() < (_BLOCK if lasted_s < _SMALL_BLOCK_S else _SMALL_BLOCK):
            return False
        self._judge(healthy)
        self._since_s = None if self.shift is None else self.shift.onset_s
        self._suspicious = self._suspicious + 1 if self.suspected or self.shift is not None else 0
        self._previous_s = self._began_s
        self._sums[:], self._seen[:] = 0.0, 0
        self._halves.settle()
        return True

    def clear(self) -> None:
        """An episode has ended: the block in work is no whole one."""
        self._sums[:], self._seen[:], self._previous, self.shift = 0.0, 0, None, None
        self.suspected, self._suspicious, self._since_s = False, 0, None
        self._pending.clear()

    def _judge(self, healthy: bool) -> None:
        known = self._seen >= _LEAST_OF_HALF
        log_ratio, expected_ms = self._sums.swapaxes(0, 1) / np.maximum(self._seen, 1)[:, None]
        common = masked_row_medians(log_ratio, expected_ms > _MEASURED_MS)[:, None]
        levels = np.concatenate((log_ratio - common, common), axis=1)
        new = known & (self._blocks == 0)
        if new.any():
            self._reference[new], self._blocks[new] = levels[new], 1
            known &= ~new
            if not known.any():
                return
        parted = self._halves.parted
        says = np.array((known.all() or not parted, known[0] and parted, known[1] and parted))
        expected_ms = _with_all(expected_ms, known)
        deviation = self._deviation(_with_all(levels - self._reference, known), expected_ms)
        deviation[~says] = 0.0
        step = None
        if self._previous is None:
            self._previous = deviation
        else:
            step = np.minimum(self._previous, deviation)
            # A half may be rare for a while: its step is what its own two latest blocks show.
            self._previous = np.where(says[:, None], deviation, self._previous)
        self.shift, self.suspected = None, False
        judged = says & (self._spread.blocks >= _WARM_UP)
        if judged.any():
            thresholds = self._spread.thresholds()
            ticks = np.log1p(_LEAST_EXCESS_MS / np.maximum(expected_ms, 1e-6))
            layers = thresholds[:, : len(self._names)]
            np.maximum(layers, ticks, out=layers)
            thresholds[~judged] = np.inf
            if step is not None:
                self.shift = self._shift(step, thresholds, expected_ms)
            self.suspected = bool((deviation > np.maximum(thresholds, self._suspicious_from)).any())
        if not healthy or self.shift is not None:
            self._pending.clear()
            return
        self._pending.append(_Block(levels, known, deviation, step, says))
        if len(self._pending) > _PROBATION:
            self._learn(self._pending.pop(0))

    def _deviation(self, departure: F64, expected_ms: F64) -> F64:
        """Of levels [3, layers + 1] less the reference."""
        levels, common = departure[:, :-1], departure[:, -1:]
        weight = np.where(expected_ms > _LONG_MS, self._spread.weight(len(self._names)), 0.0)
        own = self._factors.rest(levels, weight)
        excess_ms = np.expm1(own) * expected_ms
        groups = (excess_ms @ self._member) / np.maximum(expected_ms @ self._member, 1e-9)
        return np.concatenate((own, groups, common), axis=1)

    def _shift(self, step: F64, thresholds: F64, expected_ms: F64) -> LevelShift | None:
        """`step` [3, series]: what two blocks in a row show. The row that exceeds its threshold the most is told."""
        beyond = step > thresholds
        if not beyond.any():
            return None
        row = int(np.argmax(np.where(beyond, step / thresholds, 0.0).max(1)))
        return self._shift_of(row, step[row], beyond[row], thresholds[row], expected_ms[row])

    def _shift_of(self, row: int, step: F64, beyond: Bools, thresholds: F64, expected_ms: F64) -> LevelShift:
        count = len(expected_ms)
        excess_ms = np.expm1(step[:count]) * expected_ms
        slow, slow_groups = beyond[:count], beyond[count:-1]

        def shift(channel: str, where: str, at: int, share_ms: float, part_ms: F64) -> LevelShift:
            score, threshold, share = (
                float(step[at]),
                float(thresholds[at]),
                share_ms / float(expected_ms.sum()),
            )
            onset_s = self._previous_s if self._since_s is None else self._since_s
            return LevelShift(
                channel, where, HALVES[row], score, threshold, share, onset_s, part_ms, expected_ms
            )

        if slow_groups.any():
            group_excess = excess_ms @ self._member
            group = int(np.argmax(np.where(slow_groups, group_excess, -np.inf)))
            members = self._members[group]
            largest = int(members[np.argmax(excess_ms[members])])
            if not (slow[largest] and excess_ms[largest] >= _ONE_LAYER * group_excess[group]):
                part = np.zeros_like(excess_ms)
                part[members] = np.maximum(excess_ms[members], 0.0)
                return shift(
                    "layer_group", self._groups[group], count + group, float(group_excess[group]), part
                )
        if slow.any():
            layer = int(np.argmax(np.where(slow, excess_ms, -np.inf)))
            part = np.where(slow, excess_ms, 0.0)
            return shift("single_layer", self._names[layer], layer, float(part.sum()), part)
        everything = float(np.expm1(step[-1])) * expected_ms
        return shift("common_level", "all layers", -1, float(everything.sum()), everything)

    def _learn(self, block: _Block) -> None:
        departure = (block.levels - self._reference)[block.known]
        self._blocks += block.known
        share = 1 / np.minimum(self._blocks[block.known], _MEMORY)
        self._reference[block.known] += share[:, None] * clipped(departure, self._limit)
        self._factors.learn(departure[:, :-1].mean(0))
        self._spread.learn(block.deviation, block.step, block.says)

    def hot(self) -> State:
        """The blocks in work."""
        return {
            "block": [*self._seen.tolist(), self._suspicious, self._began_s, self._previous_s, self._since_s],
            "halves": self._halves.state(),
            "log_ratios": self._sums[:, 0].astype(np.float16),
            "expected_ms": self._sums[:, 1].astype(np.float32),
            "previous": None if self._previous is None else self._previous.astype(np.float16),
            "shift": None if self.shift is None else self.shift.state(),
            "suspected": self.suspected,
        }

    def heavy(self) -> State:
        """What was learnt."""
        return {
            "blocks": self._blocks,
            "reference": self._reference.astype(np.float32),
            "factors": self._factors.state(),
            "spread": self._spread.state(),
        }

    @classmethod
    def restore(cls, heavy: State, layers: list[Layer]) -> LevelWatch:
        self = cls(layers)
        self._reference = heavy["reference"].astype(np.float64)
        self._blocks = heavy["blocks"].copy()
        self._factors = SharedFactors.restore(heavy["factors"])
        self._spread.load(heavy["spread"])
        return self

    def load(self, hot: State) -> None:
        small, large, self._suspicious, self._began_s, self._previous_s, self._since_s = hot["block"]
        self._seen = np.array((small, large), np.int64)
        self._halves = SizeHalves.restore(hot["halves"])
        self._sums = np.stack((hot["log_ratios"], hot["expected_ms"]), axis=1).astype(np.float64)
        if hot["previous"] is not None:
            self._previous = hot["previous"].astype(np.float64)
        self.shift = None if hot["shift"] is None else LevelShift.restore(hot["shift"])
        self.suspected = hot["suspected"]


def _with_all(halves: F64, known: Bools) -> F64:
    """[3, ...] of [2, ...]: the mean of the halves that are known, ahead of them."""
    return np.concatenate((halves[known].mean(0, keepdims=True), halves))
