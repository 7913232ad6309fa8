"""What sampling costs an instance, from its own records: sampled executions beside others of the same shape."""

from __future__ import annotations

from collections.abc import Iterable

from layerwatch.schemas.profiles import ON_TWIN
from layerwatch.schemas.ring import KeyedExecution

#: Until so many sampled executions could be compared, each is taken to cost a whole execution more: on a small shape of an
#: encoder with 427 layers a profiled one took 4.22 ms instead of 2.13 ms on an H200.
_NEEDED = 5
_MAX_SHAPES = 512
#: Executions after which what was seen counts half.
_HALVE_AT = 20_000


class Cost:
    """`pct` per unit of rate is found by shapes, so that a mix that changes is no cost."""

    def __init__(self) -> None:
        self._hot: dict[bytes, list[float]] = {}  # shape: executions, their ns
        self._twin: dict[bytes, list[float]] = {}
        self._samples = self._overhead_ns = 0.0

    def fold(self, executions: Iterable[KeyedExecution], samples: int, overhead_ns: int) -> None:
        """Add executions, and what the probe has counted since: samples, and the time that they took beside."""
        if len(self._hot) + len(self._twin) > _MAX_SHAPES:
            self._hot.clear()
            self._twin.clear()
        hot, twin = self._hot, self._twin
        for execution in executions:
            if execution.since_change == 0:
                continue  # a change of shape has a price of its own
            side = twin if execution.flags & ON_TWIN else hot
            entry = side.get(execution.shape)
            if entry is None:
                entry = side[execution.shape] = [0.0, 0.0]
            entry[0] += 1
            entry[1] += execution.end_to_end_ns
        self._samples += samples
        self._overhead_ns += overhead_ns
        if sum(entry[0] for entry in hot.values()) > _HALVE_AT:
            self._halve()

    def relative(self) -> float:
        """Latency that one sampled execution adds, as a multiple of the mean latency; 1 until that is known."""
        compared = [
            (n, total / n - self._hot[shape][1] / self._hot[shape][0])
            for shape, (n, total) in self._twin.items()
            if shape in self._hot
        ]
        count = sum(n for n, _ in compared)
        executions = sum(n for n, _ in self._hot.values())
        if count < _NEEDED or not executions:
            return 1.0
        extra_ns = sum(n * more for n, more in compared) / count
        beside_ns = self._overhead_ns / self._samples if self._samples else 0.0
        mean_ns = sum(total for _, total in self._hot.values()) / executions
        return max(0.01, (extra_ns + beside_ns) / mean_ns)

    def _halve(self) -> None:
        for side in (self._hot, self._twin):
            for entry in side.values():
                entry[0] /= 2
                entry[1] /= 2
        self._samples /= 2
        self._overhead_ns /= 2
