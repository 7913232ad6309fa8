"""Never worse than reacting: forecasts plan while they cost no more than scaling on utilisation would have.

Both policies are followed all the time, each on a fleet of its own that is only thought of. Cost is replicas, and executions that
would have been late, which weigh far more. What the forecasts have cost more than the other, of late, is their regret. Scaling on
utilisation plans until the forecasts have earned some credit, and again as soon as they have lost it: by their regret, or because
replicas have run full where the other would have had more of them. Each time they must earn more.
"""

from __future__ import annotations

import msgspec

from layerwatch.detectors.load.block import LoadBlock, ServiceTime
from layerwatch.detectors.load.fleet import Fleet

#: Late executions against replicas: 2.5 % of the usual executions late weigh as much as the whole fleet.
LATE_WEIGHT = 40.0

_KEEP = 1 - 1 / 240  # memory: an hour of blocks
_EARNED = -4.0  # as eight blocks of load with half the replicas, and none of it late
_LOST = 0.0
_HARDER = 3  # times that what must be earned doubles
_SPARE = -8.0  # credit beyond what must be earned does not buy an hour of harm
_FULL = 0.95  # of the replicas' time
_USUAL = 1 / 240


class Guard(msgspec.Struct):
    """Follows both policies of one service."""

    forecast: Fleet
    reactive: Fleet
    regret: float = 0.0
    fallen_back: bool = True
    lost: int = 0  # times
    usual: float = 0.0  # executions a second, over an hour
    blocks: int = 0

    def judge(self, block: LoadBlock, service: ServiceTime, target_s: float) -> None:
        """What the block would have cost under either; call before the wishes that follow from it."""
        self.blocks += 1
        self.usual += max(_USUAL, 1 / self.blocks) * (block.rate - self.usual)
        load = block.rate / self.usual if self.usual > 0 else 0.0
        ours, theirs = self.forecast.ordered, self.reactive.ordered
        # An idle service proves nothing: replicas that are spared there earn nothing.
        replicas = (ours - theirs) / max(theirs, 1) * min(load, 1.0)
        late = self.forecast.late(block, service, target_s) - self.reactive.late(block, service, target_s)
        earned = _EARNED * 2 ** min(self.lost, _HARDER)
        self.regret = max(_KEEP * self.regret + replicas + LATE_WEIGHT * late * load, earned + _SPARE)
        full = block.utilisation >= _FULL and self.reactive.serving > block.instances
        if not self.fallen_back and (self.regret > _LOST or full):
            self.fallen_back, self.regret = True, max(self.regret, _LOST)
            self.lost += 1
        elif self.regret <= earned:
            self.fallen_back = False

    def order(self, forecast: int, reactive: int, now_s: float, startup_s: float) -> None:
        """What either wishes after the block."""
        self.forecast.order(forecast, now_s, startup_s)
        self.reactive.order(reactive, now_s, startup_s)
