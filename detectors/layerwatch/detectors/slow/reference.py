"""What executions of this build cost when it was learnt, by shape. It never adapts: what creeps would take it along.

Regressions of log latency on the shape basis, one for the shapes of the first minutes and further ones for shapes that
came later. A constant error for a bucket does no harm, since levels of buckets are chained (see `mix`).
"""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F32, F64, Bools, Ints, State
from layerwatch.detectors.shapes import Point, ShapeBasis
from layerwatch.detectors.slow.mix import Bucket

_BLOCKS, _ROWS = 5, 400  # that a regression is learnt from
_MOST = 4


class _Regression:
    def __init__(self) -> None:
        self.basis = ShapeBasis()
        self.weights = np.zeros((1, 2))  # [columns, end to end and sum of layers]
        self.known = np.zeros(2, bool)

    def state(self) -> State:
        return {
            "columns": np.array(list(self.basis.columns), np.int16),
            "octaves": [self.basis.low, self.basis.high],
            "weights": self.weights,
            "known": self.known,
        }

    @classmethod
    def restore(cls, state: State) -> _Regression:
        self = cls()
        self.basis.columns = {(int(i), int(j), int(k)): c for c, (i, j, k) in enumerate(state["columns"])}
        self.basis.low, self.basis.high = state["octaves"]
        self.weights, self.known = state["weights"], state["known"]
        return self


class Reference:
    """Expected log ms, end to end and of the sum of layers."""

    def __init__(self) -> None:
        self._frozen: list[_Regression] = []
        self._cuts = np.zeros(2)  # log ms, end to end: thirds of the executions that were learnt from first
        self._learning: list[tuple[F32, F32]] = []  # rows of blocks: (shape, log ms) of both kinds

    @property
    def ready(self) -> bool:
        return bool(self._frozen)

    def expected(self, points: list[Point]) -> F64:
        """[points, 2] log ms of the frozen reference; NaN where it knows nothing of a shape."""
        out = np.full((len(points), 2), np.nan)
        for row, point in enumerate(points):
            for regression in self._frozen:
                if regression.basis.covers(point):
                    out[row] = regression.basis.row(point) @ regression.weights
                    out[row, ~regression.known] = np.nan
                    break
        return out

    def classes(self, buckets: list[Bucket]) -> Ints:
        """[buckets] 0 to 2: whether a bucket's executions should be among the cheapest, the middle or the dearest third."""
        middles = [Point(2**bucket.batch, round(2 ** (bucket.length + 0.5))) for bucket in buckets]
        log_ms = [self._nearest(point) for point in middles]
        return np.searchsorted(self._cuts, log_ms)

    def _nearest(self, point: Point) -> float:
        return float(self._frozen[0].basis.row(point) @ self._frozen[0].weights[:, 0])

    def learn(self, end_to_end: F32, layers: F32) -> None:
        """Fold in a block's executions of shapes that are not known: [n, 4] and [k, 4] of shape and log ms."""
        if len(self._frozen) == _MOST or not len(end_to_end):
            return
        self._learning.append((end_to_end, layers))
        rows = sum(len(block) for block, _ in self._learning)
        if len(self._learning) >= _BLOCKS and rows >= _ROWS:
            self._freeze()
        elif len(self._learning) > 8 * _BLOCKS:
            del self._learning[0]

    def _freeze(self) -> None:
        regression = _Regression()
        blocks = [np.concatenate(kind) for kind in zip(*self._learning, strict=True)]
        points, rows = points_of(blocks[0])
        regression.basis.grow(points)
        regression.weights = np.zeros((len(regression.basis), 2))
        for kind, block in enumerate(blocks):
            if len(block):
                points, rows = points_of(block)
                regression.weights[:, kind] = _solved(regression.basis, points, rows, block[:, -1])
                regression.known[kind] = True
        self._frozen.append(regression)
        if len(self._frozen) == 1:
            points, rows = points_of(blocks[0])
            self._cuts = np.quantile(self.expected(points)[rows, 0], [1 / 3, 2 / 3])
        self._learning = []

    def state(self) -> State:
        return {
            "cuts": self._cuts,
            "frozen": [regression.state() for regression in self._frozen],
            "learning": [list(blocks) for blocks in self._learning],
        }

    @classmethod
    def restore(cls, state: State) -> Reference:
        self = cls()
        self._frozen = [_Regression.restore(regression) for regression in state["frozen"]]
        self._cuts = state["cuts"]
        self._learning = [(end_to_end, layers) for end_to_end, layers in state["learning"]]
        return self


def points_of(rows: F32) -> tuple[list[Point], Ints]:
    """The distinct shapes of rows whose first columns are its coordinates, and which of them each row has."""
    if not len(rows):
        return [], np.empty(0, np.int64)
    keys, index = np.unique(rows[:, :3], axis=0, return_inverse=True)
    return [Point(*(int(x) for x in key)) for key in keys], index.reshape(-1)


def unknown(expected: F64) -> Bools:
    """[points] of which a reference says nothing."""
    out: Bools = np.isnan(expected[:, 0])
    return out


def _solved(basis: ShapeBasis, points: list[Point], rows: Ints, log_ms: F32) -> F64:
    by_point = np.array([basis.row(point) for point in points])
    counts = np.bincount(rows, minlength=len(points)).astype(float)
    sums = np.bincount(rows, log_ms.astype(float), minlength=len(points))
    gram = by_point.T @ (by_point * counts[:, None]) + np.diag(basis.penalty())
    out: F64 = np.linalg.solve(gram, by_point.T @ sums)
    return out
