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
        self._seen = [0, 0]
        self._cost_ms = [0.0, 0.0]  # beside what the shape takes

    def expected_ms(self, shape_ms: F64, changed: Ints) -> F64:
        """From what the shapes take [n]."""
        same_ms, change_ms = self._beside_ms()
        if self._seen[0] < min(_KNOWN, self._seen[1]):
            same_ms = 0.0
        costs_ms: F64 | float = change_ms
        if self._seen[1] < min(_KNOWN, self._seen[0]):
            costs_ms = shape_ms
        beside_ms = np.where(changed > 0, costs_ms, same_ms)
        return np.maximum(shape_ms + beside_ms, _LEAST * shape_ms)

    def without(self, end_to_end_ms: F64, changed: Ints) -> F64:
        """What the shapes alone take of latencies [n]."""
        same_ms, change_ms = self._beside_ms()
        beside_ms = np.where(changed > 0, change_ms, same_ms)
        return np.maximum(end_to_end_ms - beside_ms, _LEAST * end_to_end_ms)

    def learn(self, end_to_end_ms: F64, shape_ms: F64, changed: Ints, weight: int = 1) -> None:
        """Fold in healthy executions [n], whose shapes should take `shape_ms`; each counts for `weight`."""
        rest_ms = clipped(end_to_end_ms - shape_ms, shape_ms)
        changes, changed_ms = int(np.add.reduce(changed)), float(rest_ms @ changed)
        unchanged_ms = float(np.add.reduce(rest_ms)) - changed_ms
        self._fold(0, weight * (len(changed) - changes), weight * unchanged_ms)
        self._fold(1, weight * changes, weight * changed_ms)

    def _fold(self, kind: int, executions: int, sum_ms: float) -> None:
        if executions:
            self._seen[kind] += executions
            wrong_ms = sum_ms - executions * self._cost_ms[kind]
            self._cost_ms[kind] += wrong_ms / min(self._seen[kind], _SETTLED)

    def _beside_ms(self) -> tuple[float, float]:
        """A change makes nothing cheaper: where it seems to, what the shapes take is not known well yet."""
        same_ms, change_ms = self._cost_ms
        return (same_ms, change_ms) if change_ms > same_ms else (0.0, 0.0)

    def state(self) -> State:
        return {"seen": list(self._seen), "cost_ms": list(self._cost_ms)}

    @classmethod
    def restore(cls, state: State) -> ShapeChange:
        self = cls()
        self._seen, self._cost_ms = list(state["seen"]), list(state["cost_ms"])
        return self
