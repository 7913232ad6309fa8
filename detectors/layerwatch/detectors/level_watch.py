"""Watches the levels of single layers, of blocks of a model, and of all layers, for steps that last.

Levels are means over some fifty sampled executions of the log-ratio to the baseline. What layers share is taken out, so
that 1.3 times as long (0.26 log units) stands out on unsteady layers too: see `factors`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors import layer_watch as column
from layerwatch.detectors.arrays import F64, State, clipped, median
from layerwatch.detectors.factors import SharedFactors
from layerwatch.detectors.sampled import Sampled
from layerwatch.schemas.engines import Layer

_BLOCK = 50  # sampled executions
_CLIP = 1.0  # log units: one execution moves a level by no more than a fiftieth of it
_WARM_UP = 12  # blocks
_MEMORY, _SPREAD_MEMORY = 24, 48  # blocks
_PROBATION = (
    2  # blocks that must follow without a shift before one is learnt from: else a step would explain itself
)
_PEAK_MEMORY = 0.998  # of the largest healthy step, at each block

#: Least effects (log units): a layer, a block of the model, all layers.
_LAYER, _GROUP, _COMMON = 0.15, 0.08, 0.07
_SPREADS = 5.5
_PEAKS = 1.5  # times the largest healthy step
_LEAST_EXCESS_MS = 2e-3  # two ticks of the GPU's timer
_MEASURED_MS = 2e-3  # an engine has many layers that take no time at all
_LONG_MS = 4e-3  # layers shorter than this are mostly rounding
_SPREAD_AT_FIRST = 0.02
_ONE_LAYER = 0.6  # of a group's excess: then it is that layer's


@dataclass(frozen=True, slots=True)
class LevelShift:
    """A step. `channel`: single_layer, layer_group or common_level; `excess_ms` and `expected_ms` [layers]."""

    channel: str
    where: str  # name of the layer or group
    score: float
    threshold: float
    share: float  # of the expected sum of layers
    onset_s: float
    excess_ms: F64
    expected_ms: F64

    def state(self) -> State:
        scalars = [self.channel, self.where, self.score, self.threshold, self.share, self.onset_s]
        return {"scalars": scalars, "ms": np.array([self.excess_ms, self.expected_ms], np.float32)}

    @classmethod
    def restore(cls, state: State) -> LevelShift:
        channel, where, score, threshold, share, onset_s = state["scalars"]
        excess_ms, expected_ms = state["ms"].astype(np.float64)
        return cls(channel, where, score, threshold, share, onset_s, excess_ms, expected_ms)


class _Spread:
    """Usual size and largest healthy step of some series; `least` [series]: effects that matter."""

    def __init__(self, least: F64) -> None:
        self._least = least
        self.usual = np.full(len(least), _SPREAD_AT_FIRST)
        self.peak = np.zeros(len(least))

    def threshold(self) -> F64:
        return np.maximum(
            self._least, np.maximum(_SPREADS * self.usual, _PEAKS * self.peak + 0.2 * self._least)
        )

    def learn(self, deviation: F64, step: F64 | None, share: float) -> None:
        capped = np.minimum(np.abs(deviation), 4 * self.usual + _SPREAD_AT_FIRST)
        self.usual += share * (1.25 * capped - self.usual)  # mean absolute deviation to standard deviation
        if step is not None:
            self.peak = np.maximum(_PEAK_MEMORY * self.peak, step)


class LevelWatch:
    """Channels `single_layer`, `layer_group` and `common_level` of one build and profile.

    A deviation from the reference (log units) has an element for each layer, then for each group, then for all layers.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._names = [layer.name for layer in layers]
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index, layer in enumerate(layers):
            if layer.group:
                members[layer.group.split("/")[0]].append(index)
        self._groups = list(members)
        self._members = [np.array(indices) for indices in members.values()]
        self._member = np.zeros((len(members), len(layers)))
        for group, indices in enumerate(members.values()):
            self._member[group, indices] = 1.0
        self._sums = np.zeros((2, len(layers)))  # log-ratios, expected ms
        self._seen = 0
        self._began_s = 0.0
        self._blocks = 0
        self._reference = np.zeros(len(layers))
        self._common_reference = 0.0
        self._factors = SharedFactors(len(layers))
        self._spread = _Spread(np.array([_LAYER] * len(layers) + [_GROUP] * len(members) + [_COMMON]))
        self._previous: F64 | None = None
        self._previous_s = 0.0
        self._pending: list[tuple[F64, float, F64, F64 | None]] = []
        self.shift: LevelShift | None = None  # as the latest block showed it
        self.suspected = False  # the latest block alone would show a step: the next one decides

    @property
    def settled(self) -> bool:
        """Whether it judges."""
        return self._blocks >= _WARM_UP

    def add(self, sampled: Sampled, healthy: bool) -> bool:
        """Fold in a message's executions; True at the end of a block, when `shift` is judged anew.

        `healthy`: no trouble is open, so that the block may be learnt from unless it shows a shift itself.
        """
        judged = sampled.features[:, column.JUDGED] > 0
        count = int(judged.sum())
        if not count:
            return False
        if not self._seen:
            self._began_s = float(sampled.features[judged, column.TIME][0])
        whole = count == len(judged)  # mostly; a copy of all would be waste
        self._sums[0] += clipped(sampled.log_ratio if whole else sampled.log_ratio[judged], _CLIP).sum(0)
        self._sums[1] += (sampled.expected_ms if whole else sampled.expected_ms[judged]).sum(0)
        self._seen += count
        if self._seen < _BLOCK:
            return False
        log_ratio, expected_ms = self._sums / self._seen
        self._judge(log_ratio, expected_ms, healthy)
        self._previous_s = self._began_s
        self._sums[:], self._seen = 0.0, 0
        return True

    def clear(self) -> None:
        """An episode has ended: the block in work is no whole one."""
        self._sums[:], self._seen, self._previous, self.shift = 0.0, 0, None, None
        self.suspected = False
        self._pending.clear()

    def _judge(self, log_ratio: F64, expected_ms: F64, healthy: bool) -> None:
        measured = expected_ms > _MEASURED_MS
        common = median(log_ratio[measured]) if measured.any() else 0.0
        levels = log_ratio - common
        if not self._blocks:
            self._reference, self._common_reference, self._blocks = levels, common, 1
            return
        deviation = self._deviation(levels - self._reference, common - self._common_reference, expected_ms)
        step = None if self._previous is None else np.minimum(self._previous, deviation)
        self._previous = deviation
        self.shift = None if step is None or self._blocks < _WARM_UP else self._shift(step, expected_ms)
        self.suspected = self.settled and self._shift(deviation, expected_ms) is not None
        if not healthy or self.shift is not None:
            self._pending.clear()
            return
        self._pending.append((levels, common, deviation, step))
        if len(self._pending) > _PROBATION:
            self._learn(*self._pending.pop(0))

    def _deviation(self, levels: F64, common: float, expected_ms: F64) -> F64:
        usual = self._spread.usual[: len(levels)]
        weight = np.where(expected_ms > _LONG_MS, 1 / (usual**2 + 1e-4), 0.0)
        own = self._factors.rest(levels, weight) if weight.any() else levels
        excess_ms = np.expm1(own) * expected_ms
        groups = (self._member @ excess_ms) / (self._member @ expected_ms)
        return np.concatenate((own, groups, (common,)))

    def _shift(self, step: F64, expected_ms: F64) -> LevelShift | None:
        """`step`: what two blocks in a row show."""
        count = len(expected_ms)
        layers, groups, common = step[:count], step[count:-1], float(step[-1])
        thresholds = self._spread.threshold()
        layer_threshold = np.maximum(
            thresholds[:count], np.log1p(_LEAST_EXCESS_MS / np.maximum(expected_ms, 1e-6))
        )
        group_threshold, common_threshold = thresholds[count:-1], float(thresholds[-1])
        slow, slow_groups = layers > layer_threshold, groups > group_threshold
        if not (slow.any() or slow_groups.any() or common > common_threshold):
            return None
        excess_ms = np.expm1(layers) * expected_ms
        total = float(expected_ms.sum())
        if slow_groups.any():
            group_excess = self._member @ excess_ms
            group = int(np.argmax(np.where(slow_groups, group_excess, -np.inf)))
            members = self._members[group]
            largest = int(members[np.argmax(excess_ms[members])])
            if not (slow[largest] and excess_ms[largest] >= _ONE_LAYER * group_excess[group]):
                part = np.zeros_like(excess_ms)
                part[members] = np.maximum(excess_ms[members], 0.0)
                return LevelShift(
                    "layer_group",
                    self._groups[group],
                    float(groups[group]),
                    float(group_threshold[group]),
                    float(group_excess[group]) / total,
                    self._previous_s,
                    part,
                    expected_ms,
                )
        if slow.any():
            layer = int(np.argmax(np.where(slow, excess_ms, -np.inf)))
            return LevelShift(
                "single_layer",
                self._names[layer],
                float(layers[layer]),
                float(layer_threshold[layer]),
                float(excess_ms[slow].sum()) / total,
                self._previous_s,
                np.where(slow, excess_ms, 0.0),
                expected_ms,
            )
        share = float(np.expm1(common))
        return LevelShift(
            "common_level",
            "all layers",
            common,
            common_threshold,
            share,
            self._previous_s,
            share * expected_ms,
            expected_ms,
        )

    def _learn(self, levels: F64, common: float, deviation: F64, step: F64 | None) -> None:
        self._blocks += 1
        share = 1 / min(self._blocks, _MEMORY)
        from_reference = levels - self._reference
        self._reference += share * clipped(from_reference, 0.5)
        self._common_reference += share * max(-0.1, min(common - self._common_reference, 0.1))
        self._factors.learn(from_reference)
        if self._blocks <= 4:
            return
        share = 1 / min(self._blocks, _SPREAD_MEMORY)
        if self._blocks <= 6:
            step = None
        self._spread.learn(deviation, step, share)

    def hot(self) -> State:
        """The blocks in work."""
        return {
            "block": [self._seen, self._began_s, self._previous_s],
            "sums": self._sums.astype(np.float32),
            "previous": None if self._previous is None else self._previous.astype(np.float32),
            "shift": None if self.shift is None else self.shift.state(),
            "suspected": self.suspected,
        }

    def heavy(self) -> State:
        """What was learnt."""
        return {
            "blocks": self._blocks,
            "reference": self._reference.astype(np.float32),
            "common": self._common_reference,
            "factors": self._factors.state(),
            "spread": np.array((self._spread.usual, self._spread.peak), np.float32),
        }

    @classmethod
    def restore(cls, heavy: State, layers: list[Layer]) -> LevelWatch:
        self = cls(layers)
        self._reference = heavy["reference"].astype(np.float64)
        self._blocks, self._common_reference = heavy["blocks"], heavy["common"]
        self._factors = SharedFactors.restore(heavy["factors"])
        self._spread.usual, self._spread.peak = heavy["spread"].astype(np.float64)
        return self

    def load(self, hot: State) -> None:
        self._seen, self._began_s, self._previous_s = hot["block"]
        self._sums = hot["sums"].astype(np.float64)
        if hot["previous"] is not None:
            self._previous = hot["previous"].astype(np.float64)
        self.shift = None if hot["shift"] is None else LevelShift.restore(hot["shift"])
        self.suspected = hot["suspected"]
