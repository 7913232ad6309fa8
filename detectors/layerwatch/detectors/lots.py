"""What lots of healthy executions say of thresholds, over seconds and over far longer."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import State

_KEPT = 24
_NEWEST = 4  # all kept; of older ones, about as many from each doubling of age
_DOUBTED = 2  # so many lots with the highest are not believed: they may have held a trouble that nobody saw


class Lots:
    """Thresholds of the newest lots and of ever fewer older ones.

    A busy service fills a lot in a second. Were only the newest kept, a quiet minute would make it forget how noisy it is
    with nothing wrong.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []  # of the lots that are kept, in order
        self._lots: list[list[float]] = []

    def __len__(self) -> int:
        return len(self._lots)

    def add(self, thresholds: list[float]) -> None:
        self._numbers.append(self._numbers[-1] + 1 if self._numbers else 0)
        self._lots.append(thresholds)
        if len(self._lots) <= _KEPT:
            return
        ages = self._numbers[-1] + 1 - np.array(self._numbers)
        # Of each but the oldest and the newest: its older neighbour's age to its newer one's.
        around = ages[: -_NEWEST - 1] / ages[2 : len(ages) - _NEWEST + 1]
        dropped = 1 + int(np.argmin(around))
        del self._numbers[dropped], self._lots[dropped]

    def agreed(self) -> list[float]:
        """What they say of each threshold: the third highest, of fewer than five the lower median.

        So that thresholds rise as soon as three lots say so, and do not follow a trouble that nobody saw.
        """
        rank = max((len(self._lots) - 1) // 2, len(self._lots) - 1 - _DOUBTED)
        ranked: list[float] = np.sort(np.array(self._lots), axis=0)[rank].tolist()
        return ranked

    def state(self) -> State:
        return {"numbers": list(self._numbers), "lots": [list(lot) for lot in self._lots]}

    @classmethod
    def restore(cls, state: State) -> Lots:
        self = cls()
        self._numbers, self._lots = list(state["numbers"]), [list(lot) for lot in state["lots"]]
        return self
