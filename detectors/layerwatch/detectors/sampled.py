"""Sampled executions beside what the layers of their shapes should take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Ints


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled executions of one lane: `rows` [k] of the batch, times and expectations [k, layers], ring columns [k, 8].

    `sizes` [k]: elements of the input (batch x length).
    """

    profile: int
    rows: Ints
    times_ms: F64
    expected_ms: F64
    log_ratio: F64
    features: F64
    sizes: F64

    @property
    def excess_ms(self) -> F64:
        """[k] by how much the sum of layers exceeds what it should be."""
        excess: F64 = np.add.reduce(self.times_ms - self.expected_ms, 1)
        return excess
