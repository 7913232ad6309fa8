"""Thresholds learnt from an instance's own healthy executions, between bounds that hold for every engine.

The bounds are effect sizes in log units (source: healthy and faulty phases of the recordings); what is learnt
only raises them, for instances that are noisier than those.
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, median, quantile


def block_medians(values: F64, block: int) -> F64:
    """Medians of half-overlapping blocks; at least one."""
    starts = range(0, max(1, len(values) - block + 1), max(1, block // 2))
    return np.array([median(values[i : i + block]) for i in starts])


def host_tail(host: F64) -> float:
    """An execution's time outside of its layers is a hit beyond this log-ratio."""
    return float(min(1.2, max(0.70, quantile(host, 0.99) + 0.25)))


def host_levels(host: F64) -> tuple[float, float]:
    """The median of 50 executions is moved beyond the first one, or beyond the second one for a while.

    With nothing wrong it is at 0.35 at the most for a moment, and at 0.30 for two seconds (recordings).
    """
    healthy = block_medians(host, 50).max()
    return float(max(0.60, healthy + 0.20)), float(max(0.42, healthy + 0.12))


def slice_share(largest: F64, whole: bool) -> float:
    """One layer's excess as a share of the sum of all layers: time-slicing by another process.

    Where three layers are the engine, one of them takes half as long again with nothing wrong; only a `whole` lot can say so,
    of fewer executions the quantile is the largest.
    """
    return float(min(1.0 if whole else 0.5, max(0.25, 2 * quantile(largest, 0.995))))


def common_mode(common: F64) -> float:
    """The median log-ratio over layers, median of 20 executions: all kernels slower alike."""
    return float(min(0.30, max(0.15, 2 * np.abs(block_medians(common, 20)).max())))


def sum_level(total: F64) -> float:
    """The log-ratio of the sum of layers, median of 50 executions."""
    return float(max(0.45, block_medians(total, 50).max() + 0.20))
