"""A block of executions as levels of its shape buckets, against what the build cost when it was learnt."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F32, F64, Ints, median
from layerwatch.detectors.shapes import Point
from layerwatch.detectors.slow import block as b
from layerwatch.detectors.slow.mix import Bucket
from layerwatch.detectors.slow.reference import Reference, points_of, unknown

#: Kinds of level: the sum of layers, end to end, and end to end with the layers at their expected time.
LAYERS, END_TO_END, HOST = range(3)
KINDS = ("the sum of layers", "end to end", "the time between the layers")

_LEAST_ROWS, _LEAST_SAMPLED = 5, 3  # of a bucket, for a median
_SHAPE = (b.BATCH, b.LENGTH, b.ALIGNMENT)
_END, _SUM = range(2)  # columns of the reference


def levels_of(block: b.Block, reference: Reference) -> tuple[list[Bucket], F64, Ints]:
    """Median log-ratios [buckets, kinds], NaN where there is too little, and executions [buckets] that they rest on.

    Teaches the reference the shapes that it does not know.
    """
    points, at = points_of(block.rows)
    expected = reference.expected(points)
    sampled_points, sampled_at = points_of(block.sampled)
    sampled_expected = reference.expected(sampled_points)
    new, sampled_new = unknown(expected)[at], unknown(sampled_expected)[sampled_at]
    if new.any():
        reference.learn(
            block.rows[new][:, [*_SHAPE, b.LOG_END_TO_END]],
            block.sampled[sampled_new][:, [*_SHAPE, b.LOG_LAYERS]],
        )
    ratio = block.rows[:, b.LOG_END_TO_END] - expected[at, _END]
    buckets, which = _buckets(block.rows[~new], points, at[~new])
    levels = np.full((len(buckets), 3), np.nan)
    counts = np.bincount(which, minlength=len(buckets))
    for row, values in enumerate(_grouped(ratio[~new], which, len(buckets))):
        if len(values) >= _LEAST_ROWS:
            levels[row, END_TO_END] = median(values)
    _layers(
        block.sampled,
        sampled_points,
        sampled_at,
        sampled_expected,
        {k: i for i, k in enumerate(buckets)},
        levels,
    )
    return buckets, levels, counts


def _layers(
    rows: F32, points: list[Point], at: Ints, expected: F64, place: dict[Bucket, int], levels: F64
) -> None:
    known = ~np.isnan(expected[at]).any(1) if len(rows) else np.zeros(0, bool)
    rows, at = rows[known], at[known]
    if not len(rows):
        return
    expected_ms = np.exp(expected[at])
    layers = rows[:, b.LOG_LAYERS] - expected[at, _SUM]
    excess_ms = np.exp(rows[:, b.LOG_LAYERS]) - expected_ms[:, _SUM]
    rest_ms = np.exp(rows[:, b.LOG_END_TO_END]) - excess_ms
    host = np.log(np.maximum(rest_ms / expected_ms[:, _END], 0.1))
    buckets, which = _buckets(rows, points, at)
    for kind, values in ((LAYERS, layers), (HOST, host)):
        for bucket, group in zip(buckets, _grouped(values, which, len(buckets)), strict=True):
            if bucket in place and len(group) >= _LEAST_SAMPLED:
                levels[place[bucket], kind] = median(group)


def _buckets(rows: F32, points: list[Point], at: Ints) -> tuple[list[Bucket], Ints]:
    sizes = np.array([(point.batch, point.length) for point in points], float).reshape(-1, 2)
    octaves = np.floor(np.log2(sizes)).astype(np.int64)
    keys = np.column_stack((rows[:, b.PROFILE].astype(np.int64), octaves[at]))
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    return [Bucket(*(int(x) for x in key)) for key in distinct], which.reshape(-1)


def _grouped(values: F64, which: Ints, groups: int) -> list[F64]:
    order = np.argsort(which, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(which, minlength=groups))[:-1]) if groups else []
