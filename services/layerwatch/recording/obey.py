"""Keeps the layers that a runtime would have sampled: its baseline share, and more where an order in force says so.

Time is the recording's own: an order counts from the message after the one that led to it until it expires, as it does on a
runtime that is told by its agent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from layerwatch.recording.layout import executions_of, is_consistent
from layerwatch.recording.thin import chosen, thinned_batch
from layerwatch.schemas.control import RATES, Control
from layerwatch.schemas.profiles import ProfileBatch


@dataclass(slots=True)
class Obedient:
    """Thins messages in order; give it all orders with `take`, from any thread.

    `share`: of executions that baseline samples, (0, 1]. `executions` and, of them, `sampled` so far.
    """

    share: float
    executions: int = 0
    sampled: int = 0
    _orders: dict[str, Control] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)

    def take(self, orders: Iterable[Control]) -> None:
        """The last order for an instance counts."""
        for order in orders:
            self._orders[order.instance] = order

    def thinned(self, batch: ProfileBatch) -> ProfileBatch:
        """The message as its agent would have sent it, with tier and rate."""
        n = executions_of(batch)
        tier, rate = self._in_force(batch)
        begun = self._seen[batch.instance]
        self._seen[batch.instance] += n
        if is_consistent(batch):  # what contradicts itself stays as it was recorded: it becomes a dead letter
            batch = thinned_batch(batch, chosen(begun, n, rate), rate)
        self.executions += n
        self.sampled += sum(len(block.rows) // 4 for block in batch.layers)
        return msgspec.structs.replace(batch, tier=tier)

    def _in_force(self, batch: ProfileBatch) -> tuple[str, float]:
        order = self._orders.get(batch.instance)
        if order is None or order.service != batch.service or order.tier == "baseline":
            return "baseline", self.share
        if not order.issued_s <= batch.window_end_s <= order.expires_s:
            return "baseline", self.share
        rate = order.rate if order.rate is not None else RATES[order.tier]
        return order.tier, rate if order.tier == "off" else max(rate, self.share)
