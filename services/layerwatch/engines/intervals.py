"""Means of paired blocks, and 95 % intervals of what one side costs more than the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

#: Two-sided 95 % of Student's t by degrees of freedom; beyond the last, the normal distribution's.
_T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306, 10: 2.228, 15: 2.131, 20: 2.086}
_T95 |= {30: 2.042, 40: 2.021, 60: 2.000, 120: 1.980}


def relative_interval_pct(plain: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """How much more `other` takes than `plain` on average, in percent: low end, mean, high end.

    The ratio of the two means, with the interval that its residuals by pair give (Cochran, Sampling Techniques, ch. 6). The
    mean of each pair's own ratio would be too large by the square of the noise: 0.06 % where block means vary by 2.5 %.
    """
    if len(plain) != len(other) or len(plain) < 2:
        raise ValueError(f"{len(plain)} and {len(other)} blocks are no pairs, or too few")
    usual = statistics.fmean(plain)
    ratio = statistics.fmean(other) / usual
    residuals = [b - ratio * a for a, b in zip(plain, other, strict=True)]
    error = statistics.stdev(residuals) / usual / math.sqrt(len(plain))
    more, half = 100 * (ratio - 1), 100 * _t95(len(plain) - 1) * error
    return more - half, more, more + half


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def _t95(freedom: int) -> float:
    """Of the next smaller number that is listed: an interval is rather too wide."""
    return _T95[max(known for known in _T95 if known <= freedom)]
