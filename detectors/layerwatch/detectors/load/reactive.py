"""Scaling on utilisation as Kubernetes' HorizontalPodAutoscaler does it: what forecasts are measured against and fall back to.

Source: kubernetes.io, "Horizontal Pod Autoscaling", algorithm details and default behaviour.
"""

from __future__ import annotations

import math

import msgspec

from layerwatch.detectors.load.block import LoadBlock

#: Of the shipped choice: tuned by `layerwatch capacity`, see there.
TARGET_UTILISATION = 0.6

#: Scale-in follows the highest wish of so many seconds.
STABILISATION_S = 300.0

_TOLERANCE = 0.1


class Reactive(msgspec.Struct):
    """Wishes of one service. Replicas that are still starting count as idle, so that they are not ordered twice."""

    target: float = TARGET_UTILISATION
    wished: list[tuple[float, int]] = []  # (time, replicas), of the stabilisation window

    def update(self, block: LoadBlock, ordered: int) -> int:
        """Replicas wished after a block; `ordered` are those that serve or start."""
        busy = block.utilisation * block.instances
        ratio = busy / (self.target * max(ordered, 1))
        wish = ordered if abs(ratio - 1) <= _TOLERANCE else math.ceil(busy / self.target - 1e-9)
        wish = min(wish, max(2 * ordered, ordered + 4))  # the default limit on one step up
        begin_s = block.end_s - STABILISATION_S
        if not self.wished:
            self.wished = [(block.end_s, ordered)]  # who takes over does not begin with taking away
        self.wished = [(at_s, n) for at_s, n in self.wished if at_s > begin_s] + [(block.end_s, wish)]
        if wish < ordered:
            return min(ordered, max(n for _, n in self.wished))
        return max(wish, 1)
