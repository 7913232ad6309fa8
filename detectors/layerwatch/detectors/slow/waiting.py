"""A delay line: what a stream shows counts as healthy only after a while, and never if an alarm came first."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F32, F64, Bools, State

#: Blocks between a value and its being learnt from: long enough for a shift to be found in between.
WAIT_BLOCKS = 24


class Waiting:
    """The latest values of `streams`, one a block; NaN where there is none. Kept in half precision."""

    def __init__(self, streams: int) -> None:
        self._values = np.full((WAIT_BLOCKS, streams), np.nan, np.float32)
        self._next = 0

    def push(self, values: F64) -> F32:
        """Put a block's values in; those of `WAIT_BLOCKS` before come out."""
        out: F32 = self._values[self._next].copy()
        self._values[self._next] = values
        self._next = (self._next + 1) % WAIT_BLOCKS
        return out

    def void(self, streams: Bools) -> None:
        """What waits was not healthy."""
        self._values[:, streams] = np.nan

    def state(self) -> State:
        return {"values": self._values.astype(np.float16), "next": self._next}

    @classmethod
    def restore(cls, state: State) -> Waiting:
        self = cls(state["values"].shape[1])
        self._values, self._next = state["values"].astype(np.float32), state["next"]
        return self
