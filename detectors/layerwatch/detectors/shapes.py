"""Input shapes as coordinates on which the cost of an execution is smooth, and the buckets that people see."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from layerwatch.detectors.arrays import F64

#: Columns that a basis grows to; 4 batch nodes x 20 half octaves of length, their margins and the alignments' fit.
_MAX_COLUMNS = 160
_MAX_ROWS = 2048


#: Kernels are chosen by what divides a dimension: an attention layer takes 5 to 15 times as long at length 55 as at 56
#: (source: shape-jump-h200, batch 1 to 4).
_ALIGNED = 8


#: Which node of batch, of length, which alignment; `_ANY`: not a function of this coordinate.
Key: TypeAlias = tuple[int, int, int]
_ANY = -1


class Point(NamedTuple):
    """Leading dimension, product of the others, and what divides each of those (1, 2, 4 or 8), of the largest input."""

    batch: int
    length: int
    alignment: int = _ALIGNED

    @property
    def cell(self) -> tuple[int, int, int]:
        """Bucket: the exact batch, half an octave of length, and the alignment."""
        return _cell(self)


@lru_cache(maxsize=4096)
def _cell(point: Point) -> Key:
    return point.batch, math.floor(2 * math.log2(point.length)), point.alignment


def point_of(shape: dict[str, list[int]]) -> Point:
    """The coordinates of an input shape; `{"ids": [4, 100]}` gives (4, 100, 4)."""
    return _point(*map(tuple, shape.values()))


@lru_cache(maxsize=4096)
def _point(*shape: tuple[int, ...]) -> Point:
    dims = max(shape, key=lambda d: (math.prod(d), len(d)))
    alignment = min((math.gcd(dim, _ALIGNED) for dim in dims[1:] if dim > 0), default=_ALIGNED)
    return Point(max(dims[0], 1), max(math.prod(dims[1:]), 1), alignment)


class ShapeBasis:
    """Hat functions on log2 batch and half octaves of log2 length: each alone, and their products; again, without the
    products, for each alignment below the best.

    Columns come into being when a shape first needs them, so a basis is as wide as the mix of shapes. Beyond the
    lengths seen, the nearest one is taken: a shape never seen borrows from its neighbour.
    """

    def __init__(self) -> None:
        self.columns: dict[Key, int] = {(_ANY, _ANY, _ANY): 0}
        self.low, self.high = math.inf, -math.inf  # of half octaves seen
        self._rows: dict[Point, F64] = {}  # of the matrix, until the basis changes
        self._grown: set[Point] = set()  # have what they need

    def __len__(self) -> int:
        return len(self.columns)

    def grow(self, points: Iterable[Point]) -> bool:
        """Make room for these shapes; whether the rows of any have changed."""
        before = len(self.columns), self.low, self.high
        for point in points:
            if point in self._grown:
                continue
            if len(self._grown) < _MAX_ROWS:
                self._grown.add(point)
            octave = 2 * math.log2(point.length)
            self.low, self.high = min(self.low, octave), max(self.high, octave)
            for key, _ in self._terms(point):
                if key not in self.columns and len(self.columns) < _MAX_COLUMNS:
                    self.columns[key] = len(self.columns)
        changed = (len(self.columns), self.low, self.high) != before
        if changed:
            self._rows.clear()
        return changed

    def __call__(self, points: list[Point]) -> F64:
        """[points, columns]"""
        return np.array([self._row(point) for point in points])

    def _row(self, point: Point) -> F64:
        row = self._rows.get(point)
        if row is None:
            row = self.row(point)
            if len(self._rows) < _MAX_ROWS:
                self._rows[point] = row
        return row

    def row(self, point: Point) -> F64:
        """[columns] of one shape, made anew."""
        row = np.zeros(len(self.columns))
        for key, weight in self._terms(point):
            column = self.columns.get(key)
            if column is not None:
                row[column] = weight
        return row

    def covers(self, point: Point) -> bool:
        """Whether a shape lies among those that the basis has grown for, and borrows nothing."""
        inside = self.low <= 2 * math.log2(point.length) <= self.high
        return inside and all(key in self.columns for key, _ in self._terms(point))

    def nearest(self, known: int) -> list[int | None]:
        """For each column from `known` on, the closest of the same kind before it; None where there is none."""
        keys = list(self.columns)
        return [_closest(keys[:known], key) for key in keys[known:]]

    def penalty(self) -> F64:
        """Ridge weight of each column: the mean is free, interactions must earn their place."""
        terms = [sum(part != _ANY for part in key) for key in self.columns]
        return np.array([(1e-6, 1.0, 3.0)[min(n, 2)] for n in terms])

    def _terms(self, point: Point) -> list[tuple[Key, float]]:
        octave = 2 * math.log2(point.length)
        if self.low <= self.high:
            octave = min(max(octave, self.low), self.high)
        batches, lengths = _hats(math.log2(point.batch)), _hats(octave)
        terms = [
            ((_ANY, _ANY, _ANY), 1.0),
            *(((i, _ANY, _ANY), w) for i, w in batches),
            *(((_ANY, j, _ANY), w) for j, w in lengths),
            *(((i, j, _ANY), w * v) for i, w in batches for j, v in lengths),
        ]
        if point.alignment != _ALIGNED:
            k = point.alignment
            terms += [
                ((_ANY, _ANY, k), 1.0),
                *(((i, _ANY, k), w) for i, w in batches),
                *(((_ANY, j, k), w) for j, w in lengths),
            ]
        return terms


def _closest(known: list[Key], key: Key) -> int | None:
    same_kind = [
        column
        for column, other in enumerate(known)
        if other[2] == key[2] and all((a == _ANY) == (b == _ANY) for a, b in zip(key, other, strict=True))
    ]
    return min(same_kind, key=lambda column: math.dist(known[column], key), default=None)


def _hats(x: float) -> list[tuple[int, float]]:
    node = math.floor(x)
    rest = x - node
    return [(node, 1.0 - rest), (node + 1, rest)] if rest > 1e-9 else [(node, 1.0)]
