"""One level for all shape buckets that a change of their shares does not move: a chained index, as prices are averaged.

The level is a weighted mean over buckets. Weights follow the traffic, but slowly, and whenever they change the index is linked:
its base takes up the difference. So a bucket that costs more than it should raises the level when it starts to, and not when
more of the traffic happens to go there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State

_BUCKETS = 64
_WEIGHT_BLOCKS = 30  # memory of the traffic
_LEVEL_BLOCKS = 10  # memory of a bucket's level, which stands in while it has no traffic


class Bucket(NamedTuple):
    """Optimization profile, batch, and half octave of length."""

    profile: int
    batch: int
    octave: int


class ChainedIndex:
    """Of `kinds` levels at once."""

    def __init__(self, kinds: int) -> None:
        self._slots: dict[Bucket, int] = {}
        self._level = np.full((_BUCKETS, kinds), np.nan)
        self._weight = np.zeros((_BUCKETS, kinds))  # those of buckets whose level is known sum to one
        self._base = np.zeros(kinds)

    def share(self, bucket: Bucket) -> float:
        """Of the traffic, of late."""
        slot = self._slots.get(bucket)
        return 0.0 if slot is None else float(self._weight[slot].max())

    def update(self, buckets: list[Bucket], levels: F64, counts: Ints) -> F64:
        """The index [kinds] after a block with these levels [buckets, kinds] (NaN: not known) of so many executions each."""
        at = np.array([self._slot(bucket) for bucket in buckets], np.int64)
        now = self._level.copy()
        known = ~np.isnan(levels)
        now[at] = np.where(known, levels, self._level[at])
        begun = np.isnan(self._level[at])
        step = np.where(begun, 1.0, 1 / _LEVEL_BLOCKS)
        first = self._weight.sum(0) == 0
        traffic = np.zeros_like(self._weight)
        traffic[at] = np.where(known, counts[:, None], 0)
        seen = traffic.sum(0) > 0
        if (first & seen).any():
            self._weight[:, first & seen] = (traffic / np.maximum(traffic.sum(0), 1))[:, first & seen]
        index = self._base + np.nansum(self._weight * now, 0)
        smoothed = self._level[at] + step * (levels - self._level[at])
        self._level[at] = np.where(known, np.where(begun, levels, smoothed), self._level[at])
        self._link(traffic, seen)
        return np.where(seen, index, np.nan)

    def _link(self, traffic: F64, seen: Ints) -> None:
        shares = traffic / np.maximum(traffic.sum(0), 1)
        weight = np.where(seen, self._weight + (shares - self._weight) / _WEIGHT_BLOCKS, self._weight)
        self._base += np.nansum((self._weight - weight) * self._level, 0)
        self._weight = weight

    def _slot(self, bucket: Bucket) -> int:
        slot = self._slots.get(bucket)
        if slot is not None:
            return slot
        slot = len(self._slots)
        if slot == _BUCKETS:
            lightest = min(self._slots, key=lambda key: self._weight[self._slots[key]].max())
            slot = self._slots.pop(lightest)
            self._drop(slot)
        self._slots[bucket] = slot
        return slot

    def _drop(self, slot: int) -> None:
        """Take a bucket out without moving the index."""
        weight = self._weight.copy()
        weight[slot] = 0.0
        weight /= np.maximum(weight.sum(0), 1e-12)
        self._base += np.nansum((self._weight - weight) * self._level, 0)
        self._weight = weight
        self._level[slot] = np.nan

    def state(self) -> State:
        n = len(self._slots)
        order = sorted(self._slots, key=lambda key: self._slots[key])
        return {
            "buckets": np.array(order, np.int64).reshape(n, 3),
            "level": self._level[:n],
            "weight": self._weight[:n],
            "base": self._base,
        }

    @classmethod
    def restore(cls, state: State) -> ChainedIndex:
        self = cls(len(state["base"]))
        for slot, row in enumerate(state["buckets"]):
            self._slots[Bucket(*(int(x) for x in row))] = slot
        n = len(self._slots)
        self._level[:n], self._weight[:n], self._base = state["level"], state["weight"], state["base"]
        return self
