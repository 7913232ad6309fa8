"""Sampled executions beside what the layers of their shapes should take."""

from __future__ import annotations

from dataclasses import dataclass

from layerwatch.detectors.arrays import F64, Ints


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled executions of one lane: `rows` [k] of the batch, times and expectations [k, layers], ring columns [k, 8].

    `excess_ms` [k]: by how much the sum of layers exceeds what it should be.
    `sizes` [k]: elements of the input (batch x length).
    """

    profile: int
    rows: Ints
    times_ms: F64
    expected_ms: F64
    log_ratio: F64
    excess_ms: F64
    features: F64
    sizes: F64
