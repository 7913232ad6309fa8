"""What layers have in common while nothing is wrong: clocks, caches and memory move many of them at once, for seconds.

A few directions hold it: in the recordings three hold 92 to 97 % of what the levels of blocks vary by. Five are taken out, or
fewer where there are few layers, followed by incremental PCA with forgetting (Ross et al., 2008, without the mean update).
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State, masked_row_medians

_KEPT = 5  # directions
#: That say something: of few layers, five directions would take out all that one of them does on its own.
_LAYERS_A_DIRECTION = 10
_FORGET = 0.98  # of a direction's strength, at each block
_REWEIGHTINGS = 1
_OUTLIER = 1.5  # robust standard deviations, beyond which a layer counts for less


class SharedFactors:
    """Directions [k, layers] of healthy deviations."""

    def __init__(self, layers: int) -> None:
        self._directions = np.zeros((0, layers))
        self._strength = np.zeros(0)

    def learn(self, deviation: F64) -> None:
        """Fold in a healthy deviation [layers] from the reference."""
        rows = np.vstack((_FORGET * self._strength[:, None] * self._directions, deviation[None, :]))
        squares, turned = np.linalg.eigh(rows @ rows.T)  # ascending
        kept = squares[-_KEPT:] > 1e-12
        self._strength = np.sqrt(squares[-_KEPT:][kept])
        self._directions = turned[:, -_KEPT:][:, kept].T @ rows / self._strength[:, None]

    def rest(self, deviations: F64, weight: F64) -> F64:
        """The part of deviations [n, layers] that is a layer's own; robust against some layers being slow.

        `weight` [n, layers]: inverse variance, 0 for layers that are too short to say anything.
        """
        kept = min(_KEPT, int(np.count_nonzero(weight.max(0))) // _LAYERS_A_DIRECTION)
        directions = self._directions[len(self._directions) - min(kept, len(self._directions)) :]
        if not len(directions):
            return deviations
        along = directions.T
        w, rest, scale = weight, deviations, np.sqrt(weight)
        for left in range(_REWEIGHTINGS, -1, -1):
            weighted = (w[:, None, :] * directions) @ along
            ridge = (1e-6 * w.sum(1) + 1e-9)[:, None, None] * np.eye(along.shape[1])
            moment = (w * deviations) @ along
            rest = deviations - np.linalg.solve(weighted + ridge, moment[:, :, None])[:, :, 0] @ directions
            if left:
                size = np.abs(rest) * scale
                usual = 1.4826 * masked_row_medians(size, weight > 0) + 1e-9
                w = weight / np.maximum(1.0, size / (_OUTLIER * usual[:, None]))
        return rest

    def state(self) -> State:
        return {"directions": self._directions.astype(np.float16), "strength": self._strength}

    @classmethod
    def restore(cls, state: State) -> SharedFactors:
        self = cls(state["directions"].shape[1])
        self._directions = state["directions"].astype(np.float64)
        self._strength = state["strength"]
        return self
