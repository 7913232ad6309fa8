"""From p-values to evidence of a change: Shiryaev-Roberts e-detectors, a mixture over bets.

Each bet pays k p^(k-1) for a p-value, 1 on average if p is uniform: a small k bets on a few tiny p-values, a large one on many
that are somewhat small. A detector's value grows by what it would have won on a change at each block of the past; while nothing
changes it is, on average, the number of blocks at most, so that an alarm at h comes once in h blocks or less (Shin, Ramdas
and Rinaldo, E-detectors, 2023). It holds if p-values are uniform given the past; see `gate` for when they are not.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, Ints, State

_BETS = np.array([0.1, 0.2, 0.35, 0.5, 0.7])
_LARGEST = 1e200


class EDetector:
    """Of `streams`; NaN p-values leave a stream as it was."""

    def __init__(self, streams: int) -> None:
        self._wealth = np.zeros((streams, len(_BETS)))
        self._run = np.ones(streams)  # CUSUM of the same bets: where it last started anew, the change began
        self.run_blocks: Ints = np.zeros(streams, np.int64)  # since then

    def update(self, p: F64) -> F64:
        """Evidence [streams] after a block."""
        known = ~np.isnan(p)
        safe = np.where(known, np.maximum(p, 1e-12), 1.0)[:, None]
        won = np.where(known[:, None], _BETS * np.exp((_BETS - 1) * np.log(safe)), 1.0)
        grown = np.minimum((1 + self._wealth) * won, _LARGEST)
        self._wealth = np.where(known[:, None], grown, self._wealth)
        anew = known & (self._run < 1)
        run = np.where(anew, 1.0, self._run) * won.mean(1)
        self._run = np.minimum(run, _LARGEST)
        self.run_blocks = np.where(anew, 0, self.run_blocks) + known
        out: F64 = self._wealth.mean(1)
        return out

    def reset(self, at: Bools) -> None:
        """Begin anew, after an alarm."""
        self._wealth[at], self._run[at], self.run_blocks[at] = 0.0, 1.0, 0

    def state(self) -> State:
        return {"wealth": self._wealth, "run": self._run, "run_blocks": self.run_blocks}

    @classmethod
    def restore(cls, state: State) -> EDetector:
        self = cls(len(state["run"]))
        self._wealth, self._run, self.run_blocks = state["wealth"], state["run"], state["run_blocks"]
        return self
