"""What an instance has executed since its boot, in sums that only grow: load is told by their differences."""

from __future__ import annotations

import msgspec
import numpy as np

from layerwatch.schemas.profiles import ProfileBatch


class Served(msgspec.Struct):
    """`busy_s` and `busy_s2` are sums of the executions' times (s) and of their squares."""

    executed: int = 0
    busy_s: float = 0.0
    busy_s2: float = 0.0
    dropped: int = 0

    def update(self, batch: ProfileBatch) -> None:
        """Add a message's executions; those that were lost before it are taken to have been like them."""
        times_s = np.frombuffer(batch.end_to_end_ms, "<f4").astype(np.float64) / 1000
        lost = max(batch.dropped - self.dropped, 0)
        self.dropped = batch.dropped
        self.executed += len(times_s) + lost
        if len(times_s):
            share = 1 + lost / len(times_s)
            self.busy_s += share * float(times_s.sum())
            self.busy_s2 += share * float(times_s @ times_s)
