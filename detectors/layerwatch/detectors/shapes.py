"""Input shapes as coordinates on which the cost of an execution is smooth, and the buckets that people see."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64

#: Columns that a basis grows to; 4 batch nodes x 20 half octaves of length and their margins fit.
_MAX_COLUMNS = 128
_MAX_ROWS = 2048


class Point(NamedTuple):
    """Leading dimension, and the product of the others, of the largest input."""

    batch: int
    length: int

    @property
    def cell(self) -> tuple[int, int]:
        """Bucket: the exact batch, and half an octave of length."""
        return self.batch, math.floor(2 * math.log2(self.length))


def point_of(shape: dict[str, list[int]]) -> Point:
    """The coordinates of an input shape; `{"ids": [4, 128]}` gives (4, 128)."""
    dims = max(shape.values(), key=lambda d: (math.prod(d), len(d)))
    return Point(max(dims[0], 1), max(math.prod(dims[1:]), 1))


class ShapeBasis:
    """Hat functions on log2 batch and half octaves of log2 length: each alone, and their products.

    Columns come into being when a shape first needs them, so a basis is as wide as the mix of shapes. Beyond the
    lengths seen, the nearest one is taken: a shape never seen borrows from its neighbour.
    """

    def __init__(self) -> None:
        self.columns: dict[tuple[int, int], int] = {(-1, -1): 0}  # -1: not a function of this coordinate
        self.low, self.high = math.inf, -math.inf  # of half octaves seen
        self._rows: dict[Point, F64] = {}  # of the matrix, until the basis changes
        self._grown: set[Point] = set()  # have what they need

    def __len__(self) -> int:
        return len(self.columns)

    def grow(self, points: Iterable[Point]) -> None:
        """Make room for these shapes."""
        for point in points:
            if point in self._grown:
                continue
            if len(self._grown) < _MAX_ROWS:
                self._grown.add(point)
            octave = 2 * math.log2(point.length)
            if not self.low <= octave <= self.high:
                self._rows.clear()
            self.low, self.high = min(self.low, octave), max(self.high, octave)
            for key, _ in self._terms(point):
                if key not in self.columns and len(self.columns) < _MAX_COLUMNS:
                    self.columns[key] = len(self.columns)
                    self._rows.clear()

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

    def nearest(self, known: int) -> list[int]:
        """For each column from `known` on, the closest of the same kind before it; the mean where there is none."""
        keys = list(self.columns)
        return [min(range(known), key=lambda c: _distance(keys[c], key), default=0) for key in keys[known:]]

    def penalty(self) -> F64:
        """Ridge weight of each column: the mean is free, interactions must earn their place."""
        weights = [1e-6 if key == (-1, -1) else 1.0 if -1 in key else 3.0 for key in self.columns]
        return np.array(weights)

    def _terms(self, point: Point) -> list[tuple[tuple[int, int], float]]:
        octave = 2 * math.log2(point.length)
        if self.low <= self.high:
            octave = min(max(octave, self.low), self.high)
        batches, lengths = _hats(math.log2(point.batch)), _hats(octave)
        return [
            ((-1, -1), 1.0),
            *(((i, -1), w) for i, w in batches),
            *(((-1, j), w) for j, w in lengths),
            *(((i, j), w * v) for i, w in batches for j, v in lengths),
        ]


def _distance(one: tuple[int, int], other: tuple[int, int]) -> float:
    same_kind = (one[0] < 0) == (other[0] < 0) and (one[1] < 0) == (other[1] < 0)
    return math.dist(one, other) if same_kind else math.inf


def _hats(x: float) -> list[tuple[int, float]]:
    node = math.floor(x)
    rest = x - node
    return [(node, 1.0 - rest), (node + 1, rest)] if rest > 1e-9 else [(node, 1.0)]
