"""A fleet that is only thought of: what a policy's wishes would have cost on the load that came, queues as a fluid."""

from __future__ import annotations

import msgspec

from layerwatch.detectors.load.block import BLOCK_S, LoadBlock, ServiceTime
from layerwatch.detectors.load.capacity import late_share

_WEIGHT = 0.4


class Fleet(msgspec.Struct):
    """`serving` replicas, those that `start` at a time, and the work that waits (s of one replica)."""

    serving: int
    starting: list[tuple[float, int]] = []
    backlog_s: float = 0.0
    rate: float = 0.0  # executions a second, of the last minute: a block's alone is mostly chance

    @property
    def ordered(self) -> int:
        return self.serving + sum(n for _, n in self.starting)

    def order(self, wish: int, now_s: float, startup_s: float) -> None:
        """More replicas serve once they have started; fewer go at once, those that still start first."""
        more = wish - self.ordered
        if more > 0:
            self.starting.append((now_s + startup_s, more))
        while more < 0 and self.starting:
            at_s, n = self.starting.pop()
            if n > -more:
                self.starting.append((at_s, n + more))
            more = min(more + n, 0)
        self.serving += min(more, 0)

    def late(self, block: LoadBlock, service: ServiceTime, target_s: float) -> float:
        """Share of the block's executions that would have been late."""
        self.serving += sum(n for at_s, n in self.starting if at_s <= block.end_s)
        self.starting = [(at_s, n) for at_s, n in self.starting if at_s > block.end_s]
        self.backlog_s = max(self.backlog_s + block.busy_s - self.serving * BLOCK_S, 0.0)
        self.rate += _WEIGHT * (block.rate - self.rate)
        if not block.executions:
            return 0.0
        if not self.serving or self.backlog_s / self.serving > target_s - service.mean_s:
            return 1.0
        if self.rate * service.mean_s >= self.serving:  # the queue has only begun to grow
            return self.backlog_s / self.serving / max(target_s - service.mean_s, 1e-9)
        return late_share(self.serving, self.rate, service, target_s)
