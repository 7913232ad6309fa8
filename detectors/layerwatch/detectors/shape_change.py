"""What an execution costs more because its shape is another one than the execution's before, and less because it is not.

TensorRT works out again what depends on the shape; where the host is what an execution waits for, as with many short layers,
that is most of it: 2.9 instead of 5.5 ms for a MobileNet, 1.5 instead of 2.4 ms for a ResNet-50 (8.6, H200, whichever shape).
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State, clipped

#: Executions of a kind, changed or not, that what it costs rests on. As long as most are of the other kind and these are
#: fewer, a change is taken to cost as much as all the rest, which is more than was ever seen, and no change nothing.
_KNOWN = 50
#: Later ones count for so little: the cost is the engine's, and changes with it.
_SETTLED = 2000
_LEAST = 0.2  # of what the shape takes: no change costs more than the rest


class ShapeChange:
    """Of one build on one instance. Index 1 is the executions whose shape or profile has changed, 0 the others.

    Where a runtime does not say which those are, none has, and nothing is different for it.
    """

    def __init__(self) -> None:
        self._seen = np.zeros(2, np.int64)
        self._cost_ms = np.zeros(2)  # beside what the shape takes

    def expected_ms(self, shape_ms: F64, changed: Ints) -> F64:
        """From what the shapes take [n]."""
        cost_ms = self._beside_ms(changed)
        rarer = int(self._seen[1] < self._seen[0])
        if self._seen[rarer] < _KNOWN:
            cost_ms = np.where(changed == rarer, rarer * shape_ms, cost_ms)
        return np.maximum(shape_ms + cost_ms, _LEAST * shape_ms)

    def without(self, end_to_end_ms: F64, changed: Ints) -> F64:
        """What the shapes alone take of latencies [n]."""
        return np.maximum(end_to_end_ms - self._beside_ms(changed), _LEAST * end_to_end_ms)

    def learn(self, end_to_end_ms: F64, shape_ms: F64, changed: Ints) -> None:
        """Fold in healthy executions [n], whose shapes should take `shape_ms`."""
        rest_ms = clipped(end_to_end_ms - shape_ms, shape_ms)
        counts = np.bincount(changed, minlength=2)
        sums = np.bincount(changed, rest_ms, minlength=2)
        self._seen += counts
        self._cost_ms += (sums - counts * self._cost_ms) / np.clip(self._seen, 1, _SETTLED)

    def _beside_ms(self, changed: Ints) -> F64:
        """A change makes nothing cheaper: where it seems to, what the shapes take is not known well yet."""
        ascending = self._cost_ms[1] > self._cost_ms[0]
        return self._cost_ms[changed] if ascending else np.zeros(len(changed))

    def state(self) -> State:
        return {"seen": self._seen.tolist(), "cost_ms": self._cost_ms.tolist()}

    @classmethod
    def restore(cls, state: State) -> ShapeChange:
        self = cls()
        self._seen = np.array(state["seen"], np.int64)
        self._cost_ms = np.array(state["cost_ms"], float)
        return self
