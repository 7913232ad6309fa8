"""A batch beside what its shapes should cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64, Bools, Ints
from layerwatch.detectors.layer_watch import JUDGED
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.shapes import Point


@dataclass(frozen=True, slots=True)
class Compared:
    """A batch against the baselines."""

    points: list[Point]
    rows: F64  # [n, 8], columns of ExecutionWatch
    skip: Bools
    sampled: list[Sampled]
    sampled_rows: F64  # [k, 8], columns of LayerWatch, judged ones only
    sampled_at: Ints  # [k] index into the batch


def subtract_layers(rows: F64, sampled: Sampled) -> None:
    """Where the layers of an execution are known, its host part is what their excess does not explain."""
    judged = sampled.features[:, JUDGED] > 0
    at = sampled.rows[judged]
    expected_ms = rows[at, e.EXPECTED_MS]
    excess_ms = np.maximum(sampled.excess_ms[judged], 0.0)
    rest_ms = np.maximum(rows[at, e.END_TO_END_MS] - excess_ms, 0.1 * expected_ms)
    rows[at, e.HOST] = np.log(rest_ms / expected_ms)
