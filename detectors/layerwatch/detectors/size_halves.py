"""Parts executions into a half with small inputs and a half with large ones: some troubles hurt only one."""

from __future__ import annotations

from collections import deque

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, State

_EVERY = 4  # executions, of which one is remembered
_KEPT = 400  # sizes remembered
_LEAST = 12  # of them before a boundary stands
_LEAST_SHARE = 0.2  # of each half; a size that most executions have cannot be parted


class SizeHalves:
    """The boundary parts the latest executions as evenly as their sizes allow."""

    def __init__(self) -> None:
        self._sizes: deque[float] = deque(maxlen=_KEPT)
        self._boundary: float | None = None

    @property
    def stands(self) -> bool:
        """Whether enough executions were seen to part them."""
        return self._boundary is not None

    @property
    def parted(self) -> bool:
        """Whether there are two halves; if not, all executions are of the smaller one."""
        return self._boundary is not None and self._boundary < np.inf

    def push(self, sizes: F64) -> None:
        """Remember some of these executions [k]."""
        self._sizes.extend(sizes[::_EVERY].tolist())
        if not self.stands and len(self._sizes) >= _LEAST:
            self.settle()

    def settle(self) -> None:
        """Draw the boundary anew."""
        ordered = np.sort(np.array(self._sizes))
        ends = np.flatnonzero(np.diff(ordered))  # the last one of each size but the largest
        shares = (ends + 1) / len(ordered)
        best = int(np.argmin(np.abs(shares - 0.5))) if len(ends) else 0
        even = len(ends) and _LEAST_SHARE <= shares[best] <= 1 - _LEAST_SHARE
        self._boundary = float(ordered[ends[best]]) if even else np.inf

    def larger(self, sizes: F64) -> Bools:
        """[k] which executions are of the larger half; needs `stands`."""
        assert self._boundary is not None
        larger: Bools = sizes > self._boundary
        return larger

    def state(self) -> State:
        return {"sizes": np.array(self._sizes, np.float32), "boundary": self._boundary}

    @classmethod
    def restore(cls, state: State) -> SizeHalves:
        self = cls()
        self._sizes.extend(state["sizes"].tolist())
        self._boundary = state["boundary"]
        return self
