"""One level for all shape buckets that a change of their shares does not move: a chained index, as prices are averaged.

The level is a weighted mean over buckets. Weights follow the traffic, but slowly, and whenever they change the index is linked:
its base takes up the difference. So a bucket that costs more than it should raises the level when it starts to, and not when
more of the traffic happens to go there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, Ints, State

_BUCKETS = 64
_WEIGHT_BLOCKS = 30  # memory of the traffic
_LEVEL_BLOCKS = 10  # memory of a bucket's level, which stands in while it has no traffic


class Bucket(NamedTuple):
    """Optimization profile, and octaves of batch and length: wide enough that each has some of a minute's executions even
    where hundreds of shapes are served. What a shape costs within it is the reference's business."""

    profile: int
    batch: int
    length: int


class Links:
    """Many indices over `buckets` places each; arrays [indices, buckets]."""

    def __init__(self, indices: int, buckets: int) -> None:
        self.level = np.full((indices, buckets), np.nan)
        self.weight = np.zeros((indices, buckets))  # of an index that has begun, they sum to one
        self.base = np.zeros(indices)

    def update(self, levels: F64, traffic: F64) -> F64:
        """The indices after a block [indices]; `levels` NaN and `traffic` 0 where a bucket has none."""
        known = ~np.isnan(levels)
        total = traffic.sum(1, keepdims=True)
        seen: Bools = total[:, 0] > 0
        shares = traffic / np.maximum(total, 1)
        begins = seen & (self.weight.sum(1) == 0)
        self.weight[begins] = shares[begins]
        now = np.where(known, levels, self.level)
        index = self.base + np.nansum(self.weight * now, 1)
        smoothed = self.level + (levels - self.level) / _LEVEL_BLOCKS
        self.level = np.where(known, np.where(np.isnan(self.level), levels, smoothed), self.level)
        self._weigh(
            np.where(seen[:, None], self.weight + (shares - self.weight) / _WEIGHT_BLOCKS, self.weight)
        )
        out: F64 = np.where(seen, index, np.nan)
        return out

    def drop(self, place: int) -> None:
        """Take a bucket out without moving an index."""
        weight = self.weight.copy()
        weight[:, place] = 0.0
        self._weigh(weight / np.maximum(weight.sum(1, keepdims=True), 1e-12))
        self.level[:, place] = np.nan

    def _weigh(self, weight: F64) -> None:
        self.base += np.nansum((self.weight - weight) * self.level, 1)
        self.weight = weight


class ChainedIndex:
    """Of `kinds` levels at once, over buckets that come and go."""

    def __init__(self, kinds: int) -> None:
        self._places: dict[Bucket, int] = {}
        self._links = Links(kinds, _BUCKETS)

    def update(self, buckets: list[Bucket], levels: F64, counts: Ints) -> F64:
        """The index [kinds] after a block with these levels [buckets, kinds] (NaN: not known) of so many executions each."""
        at = np.array([self._place(bucket) for bucket in buckets[:_BUCKETS]], np.int64)
        now = np.full_like(self._links.level, np.nan)
        now[:, at] = levels[: len(at)].T
        traffic = np.zeros_like(now)
        traffic[:, at] = counts[: len(at)]
        traffic[np.isnan(now)] = 0.0
        return self._links.update(now, traffic)

    def _place(self, bucket: Bucket) -> int:
        place = self._places.pop(bucket, None)
        if place is None:
            place = len(self._places)
            if place == _BUCKETS:
                place = self._places.pop(next(iter(self._places)))  # not seen for longest
                self._links.drop(place)
        self._places[bucket] = place
        return place

    def state(self) -> State:
        n = len(self._places)
        return {
            "buckets": np.array(list(self._places), np.int64).reshape(n, 3),
            "places": list(self._places.values()),
            "level": self._links.level[:, :n],
            "weight": self._links.weight[:, :n],
            "base": self._links.base,
        }

    @classmethod
    def restore(cls, state: State) -> ChainedIndex:
        self = cls(len(state["base"]))
        for row, place in zip(state["buckets"], state["places"], strict=True):
            self._places[Bucket(*(int(x) for x in row))] = place
        n = len(self._places)
        self._links.level[:, :n], self._links.weight[:, :n] = state["level"], state["weight"]
        self._links.base = state["base"]
        return self
