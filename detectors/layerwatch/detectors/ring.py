"""The last rows of a stream of feature vectors, newest last."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State


class Ring:
    """At most `capacity` rows of `width` numbers."""

    def __init__(self, capacity: int, width: int) -> None:
        self._capacity = capacity
        self._room = self._rows = np.empty((0, width))  # rows are the newest of what is in the room
        self._end = 0

    def __len__(self) -> int:
        return len(self._rows)

    def push(self, rows: F64) -> None:
        count = len(rows)
        end = self._end + count
        if end > len(self._room):  # a new one: what was given out before stays as it is
            kept = self._rows[max(0, len(self._rows) + count - self._capacity) :]
            self._room = np.empty((len(kept) + count + self._capacity // 4, rows.shape[1]))
            self._room[: len(kept)] = kept
            end = len(kept) + count
        self._room[end - count : end] = rows
        self._end = end
        self._rows = self._room[max(0, end - len(self._rows) - count, end - self._capacity) : end]

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
        self._room = self._rows = np.column_stack((state["time"], state["rows"].astype(np.float64)))
        self._end = len(self._room)
        return self
