"""The last rows of a stream of feature vectors, newest last."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State


class Ring:
    """At most `capacity` rows of `width` numbers."""

    def __init__(self, capacity: int, width: int) -> None:
        self._capacity = capacity
        self._rows = np.empty((0, width))

    def __len__(self) -> int:
        return len(self._rows)

    def push(self, rows: F64) -> None:
        self._rows = np.concatenate((self._rows, rows))[-self._capacity :]

    def shrink(self, capacity: int) -> None:
        """Keep fewer rows from now on."""
        self._capacity = capacity
        self._rows = self._rows[-capacity:]

    def last(self, count: int) -> F64:
        """The newest `count` rows, or all there are."""
        return self._rows[-count:]

    def since(self, time_s: float) -> F64:
        """Rows whose first column is at or after a time."""
        return self._rows[np.searchsorted(self._rows[:, 0], time_s) :]

    def clear(self) -> None:
        self._rows = self._rows[:0]

    def state(self) -> State:
        # Times need all their digits; the rest is measured to four.
        return {
            "capacity": self._capacity,
            "time": self._rows[:, 0].copy(),
            "rows": self._rows[:, 1:].astype(np.float32),
        }

    @classmethod
    def restore(cls, state: State) -> Ring:
        self = cls(state["capacity"], state["rows"].shape[1] + 1)
        self._rows = np.column_stack((state["time"], state["rows"].astype(np.float64)))
        return self
