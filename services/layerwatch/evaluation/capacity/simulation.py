"""A service under a trace: one queue, replicas that each execute one request at a time, start-up, and scaling.

A policy sees what layerwatch sees: after each 15 s how many executions have ended, how long replicas were busy, and how many
serve. It sees neither the queue nor what has arrived and waits.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.load.block import BLOCK_S, LoadBlock
from layerwatch.evaluation.capacity.traces import Arrivals

#: Replicas wished after a block, given those that serve or start.
Policy = Callable[[LoadBlock, int], int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """By block: requests that arrived, those of them that were late, and replicas' time from their order on (s)."""

    arrived: F64
    late: F64
    replica_s: F64

    @property
    def late_share(self) -> float:
        return float(self.late.sum() / self.arrived.sum())

    @property
    def replica_hours(self) -> float:
        return float(self.replica_s.sum() / 3600)


class _Replicas:
    """Who is to go finishes what it does."""

    def __init__(self, count: int) -> None:
        self._free_at = [0.0] * count  # heap: when each is done with what it has taken
        self._starting: list[float] = []  # heap: when each serves
        self._leaving = 0  # as many go as soon as they are done

    @property
    def ordered(self) -> int:
        return len(self._free_at) - self._leaving + len(self._starting)

    @property
    def there(self) -> int:
        """All that cost something."""
        return len(self._free_at) + len(self._starting)

    def serving(self, now_s: float) -> int:
        while self._starting and self._starting[0] <= now_s:
            heapq.heappush(self._free_at, heapq.heappop(self._starting))
        while self._leaving and self._free_at[0] <= now_s:
            heapq.heappop(self._free_at)
            self._leaving -= 1
        return len(self._free_at) - self._leaving

    def scale(self, wish: int, now_s: float, startup_s: float) -> None:
        """Call `serving` first."""
        more = max(wish, 1) - self.ordered
        back = min(max(more, 0), self._leaving)
        self._leaving -= back
        for _ in range(more - back):
            heapq.heappush(self._starting, now_s + startup_s)
        for _ in range(-more):
            if self._starting:
                self._starting.remove(max(self._starting))
                heapq.heapify(self._starting)
            elif self._free_at[0] <= now_s:
                heapq.heappop(self._free_at)
            else:
                self._leaving += 1

    def begin(self, arrived_s: float) -> float:
        """When a request that came then, and is the next in the queue, begins."""
        while True:
            free_s = self._free_at[0] if self._free_at else math.inf
            if self._starting and self._starting[0] < max(free_s, arrived_s):
                heapq.heappush(self._free_at, heapq.heappop(self._starting))
            elif self._leaving and len(self._free_at) > 1:
                heapq.heappop(self._free_at)
                self._leaving -= 1
            else:
                return max(free_s, arrived_s)

    def take(self, done_s: float) -> None:
        heapq.heapreplace(self._free_at, done_s)


class _Seen:
    """What layerwatch sees of the replicas, by block."""

    def __init__(self, blocks: int) -> None:
        self._busy_s = np.zeros(blocks)
        self._ended = np.zeros(blocks)
        self._busy_s2 = np.zeros(blocks)

    def execute(self, begin_s: float, done_s: float) -> None:
        """Time is seen while it passes: a request is many executions, each told when it ends."""
        last = int(done_s // BLOCK_S)
        if last < len(self._ended):
            self._ended[last] += 1
            self._busy_s2[last] += (done_s - begin_s) ** 2
        for k in range(int(begin_s // BLOCK_S), min(last + 1, len(self._busy_s))):
            self._busy_s[k] += min(done_s, (k + 1) * BLOCK_S) - max(begin_s, k * BLOCK_S)

    def block(self, k: int, instances: int) -> LoadBlock:
        return LoadBlock(
            (k + 1) * BLOCK_S,
            float(self._ended[k]),
            float(self._busy_s[k]),
            float(self._busy_s2[k]),
            instances,
        )


def simulate(arrivals: Arrivals, policy: Policy, startup_s: float, target_s: float, first: int) -> Outcome:
    """The whole trace under a policy, which begins with `first` replicas and ends when the queue is empty."""
    times, service = arrivals.times_s.tolist(), arrivals.service_s.tolist()
    blocks = int(times[-1] // BLOCK_S) + 1
    out = Outcome(np.zeros(blocks), np.zeros(blocks), np.zeros(blocks))
    replicas, seen, next_up = _Replicas(first), _Seen(blocks), 0
    for k in range(blocks + 1):
        end_s = (k + 1) * BLOCK_S if k < blocks else math.inf
        while next_up < len(times) and times[next_up] < end_s:
            came_s, needs_s = times[next_up], service[next_up]
            begin_s = replicas.begin(came_s)
            if begin_s >= end_s:
                break
            replicas.take(begin_s + needs_s)
            seen.execute(begin_s, begin_s + needs_s)
            at = int(came_s // BLOCK_S)
            out.arrived[at] += 1
            out.late[at] += begin_s + needs_s - came_s > target_s
            next_up += 1
        if k < blocks:
            out.replica_s[k] = replicas.there * BLOCK_S
            block = seen.block(k, max(replicas.serving(end_s), 1))
            replicas.scale(policy(block, replicas.ordered), end_s, startup_s)
    return out
