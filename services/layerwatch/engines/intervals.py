"""Means of paired blocks, and 95 % intervals of what one side costs more than the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

#: Two-sided 95 % of Student's t by degrees of freedom; beyond the last, the normal distribution's.
_T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306, 10: 2.228, 15: 2.131, 20: 2.086}
_T95 |= {30: 2.042, 40: 2.021, 60: 2.000, 120: 1.980}


def relative_interval_pct(plain: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """How much more `other` takes than `plain`, block by block, in percent: low end, mean, high end."""
    if len(plain) != len(other) or len(plain) < 2:
        raise ValueError(f"{len(plain)} and {len(other)} blocks are no pairs, or too few")
    ratios = [100 * (b / a - 1) for a, b in zip(plain, other, strict=True)]
    mean = statistics.fmean(ratios)
    half = _t95(len(ratios) - 1) * statistics.stdev(ratios) / math.sqrt(len(ratios))
    return mean - half, mean, mean + half


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def _t95(freedom: int) -> float:
    """Of the next smaller number that is listed: an interval is rather too wide."""
    return _T95[max(known for known in _T95 if known <= freedom)]
