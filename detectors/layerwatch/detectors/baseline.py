"""What an execution of a given shape should take: a robust, incremental, shape-conditional baseline of log latencies.

A ridge regression on the shape basis says what any shape costs; a cell (exact batch, half octave of length) keeps its own
offset from it, trusted as executions arrive, so a shape never seen borrows and then finds its own level. Latencies are
logarithms with a floor of half the timer's tick, since an error of one tick is nothing for a long layer and
everything for a short one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State, clipped, some
from layerwatch.detectors.cell_offsets import ADAPT_EXECUTIONS, CellOffsets
from layerwatch.detectors.shapes import Key, Point, ShapeBasis

#: Half a tick of the GPU's timer (source: recordings, ticks of about 1 us).
FLOOR_MS = 5e-4

#: Executions that a baseline rests on before it judges; where few are sampled, waiting for as many takes too long.
SUPPORT, SPARSE_SUPPORT = 8, 3

_FIRST_SOLVE = 64
_CLIP_NEW = 6.0  # log units; a shape never seen may cost 400 times what it borrows
_CLIP_LEARNING = 0.5  # an outlier moves the fit by no more than this
_CLIP_ADAPTING = 0.2
_SETTLED_STRIDE = 4


class ShapeBaseline:
    """Baseline of `outputs` log latencies (layers of one build and profile, or end to end)."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.seen = 0
        self._basis = ShapeBasis()
        self._gram = np.zeros((1, 1))
        self._moment = np.zeros((1, outputs))
        self._weights: F64 | None = None
        self._next_solve = _FIRST_SOLVE
        self._cells = CellOffsets(outputs, 1)
        self._support: dict[Key, int] = {}  # executions by batch and length, and by alignment
        self._turn = 0
        #: The latest shapes, what was expected of them, and executions of their cells: a message asks twice, to judge
        #: them and to learn.
        self._latest: tuple[list[Point], F64, Ints] | None = None

    @property
    def fitted(self) -> bool:
        return self._weights is not None

    def expected(self, points: list[Point]) -> tuple[F64, Ints]:
        """(log ms [points, outputs], executions that each one rests on [points]); needs `fitted`. Not to be written to.

        Those of the point's cell; or those of the same batch and length in any alignment, and half of those of the
        neighbouring lengths, if the alignment is known too.
        """
        log_ms, own = self._expect(points)
        return log_ms, np.maximum(own, [self._borrowed(point) for point in points])

    def _expect(self, points: list[Point]) -> tuple[F64, Ints]:
        """(log ms [points, outputs], executions of their own cells [points])"""
        assert self._weights is not None
        if self._latest is None or self._latest[0] is not points:
            rows = self._cells.rows(points)
            log_ms = self._basis(points) @ self._weights + self._cells.offsets(rows)
            self._latest = points, log_ms, self._cells.seen(rows)
        return self._latest[1:]

    def _borrowed(self, point: Point) -> int:
        support = self._support
        size, shorter, longer, alignment = _support_keys(point)
        beside = support.get(shorter, 0) + support.get(longer, 0)
        return min(support.get(size, 0) + beside // 2, support.get(alignment, 0))

    def weight(self, points: list[Point], shape: Ints) -> int:
        """For how many each of a message's executions counts, which `learn` wants to know; 0: they are passed over.

        Once all their shapes are settled, one message of four stands for the four. To be asked once a message.
        """
        used = set(shape.tolist())
        mine = [points[i] for i in used] if len(used) < len(points) else points
        if self._latest is not None and self._latest[0] is mine:
            seen = self._latest[2]
        else:
            seen = self._cells.seen(self._cells.rows(mine))
        if some(seen < ADAPT_EXECUTIONS):
            return 1
        self._turn = (self._turn + 1) % _SETTLED_STRIDE
        return 0 if self._turn else _SETTLED_STRIDE

    def learn(self, points: list[Point], shape: Ints, log_ms: F64, weight: int = 1) -> None:
        """Fold in healthy executions: `shape` [k] into `points`, `log_ms` [k, outputs]."""
        used = sorted(set(shape.tolist()))
        mine = [points[i] for i in used] if len(used) < len(points) else points
        self._grow(mine)
        if self._weights is not None:
            log_ms = self._tame(points, shape, log_ms)
        self._latest = None
        member = shape == np.array(used)[:, None]
        sums = weight * (member.astype(float) @ log_ms)
        counts = weight * np.add.reduce(member, 1, np.int64)
        basis = self._basis(mine)
        self._gram += basis.T @ (basis * counts[:, None])
        self._moment += basis.T @ sums
        self.seen += int(counts.sum())
        for point, count in zip(mine, counts.tolist(), strict=True):
            size, _, _, alignment = _support_keys(point)
            self._support[size] = self._support.get(size, 0) + count
            self._support[alignment] = self._support.get(alignment, 0) + count
        if self._weights is not None:
            residual = sums / counts[:, None] - basis @ self._weights
            self._cells.settle(mine, counts, residual, basis)
        if self.seen >= self._next_solve:
            self._solve()
            self._next_solve = int(self.seen * 1.5)

    def shift(self, log_ratio: float) -> None:
        """Expect all latencies to be longer by so much: the level of an instance that differs from the build's."""
        if self._weights is not None:
            self._weights[0] += log_ratio
            self._latest = None
            self._moment += self._gram[:, :1] * log_ratio

    def _tame(self, points: list[Point], shape: Ints, log_ms: F64) -> F64:
        log_expected, seen = self._expect(points)
        clip = np.where(
            seen < SUPPORT, _CLIP_NEW, np.where(seen < ADAPT_EXECUTIONS, _CLIP_LEARNING, _CLIP_ADAPTING)
        )
        expected = log_expected[shape]
        return expected + clipped(log_ms - expected, clip[shape][:, None])

    def _solve(self) -> None:
        weights = self._fit()
        if self._weights is not None:
            self._cells.follow(self._weights - weights)
        self._weights = weights

    def _fit(self) -> F64:
        penalty = np.diag(self._basis.penalty())
        return np.asarray(np.linalg.solve(self._gram + penalty, self._moment), np.float64)

    def _grow(self, points: list[Point]) -> None:
        """New columns begin as their nearest neighbours, so that what was borrowed stays until there is more."""
        if self._basis.grow(points):
            self._latest = None
        known = len(self._gram)
        extra = len(self._basis) - known
        if extra:
            self._gram = np.pad(self._gram, ((0, extra), (0, extra))).astype(np.float64)
            self._moment = np.pad(self._moment, ((0, extra), (0, 0))).astype(np.float64)
            if self._weights is not None:
                nearest = self._basis.nearest(known)
                borrowed = [np.zeros(self.outputs) if c is None else self._weights[c] for c in nearest]
                self._weights = np.concatenate((self._weights, borrowed))
            self._cells.grow(extra)

    def state(self) -> State:
        """Halves where they are precise enough. The moment follows from the fit, which is cheaper to keep."""
        weights = self._fit()
        return {
            "outputs": self.outputs,
            "seen": self.seen,
            "next_solve": self._next_solve,
            "turn": self._turn,
            "fitted": self.fitted,
            "columns": np.array(list(self._basis.columns), np.int32),
            "octaves": [self._basis.low, self._basis.high],
            "gram": self._gram[np.triu_indices(len(self._gram))].astype(np.float32),
            "level": weights[0].astype(np.float32),
            "weights": weights[1:].astype(np.float16),
            "support": np.array([[*key, n] for key, n in self._support.items()], np.int64).reshape(-1, 4),
            **self._cells.state(None if self._weights is None else self._weights - weights),
        }

    @classmethod
    def restore(cls, state: State) -> ShapeBaseline:
        self = cls(state["outputs"])
        self.seen, self._next_solve, self._turn = state["seen"], state["next_solve"], state["turn"]
        self._basis.columns = {(int(i), int(j), int(k)): c for c, (i, j, k) in enumerate(state["columns"])}
        self._basis.low, self._basis.high = state["octaves"]
        columns = len(self._basis)
        upper = np.zeros((columns, columns))
        upper[np.triu_indices(columns)] = state["gram"]
        self._gram = upper + np.triu(upper, 1).T
        weights = np.concatenate((state["level"][None, :], state["weights"])).astype(np.float64)
        self._moment = (self._gram + np.diag(self._basis.penalty())) @ weights
        self._weights = weights if state["fitted"] else None
        self._cells = CellOffsets.restore(state, self.outputs, columns)
        for *key, executions in state["support"].tolist():
            self._support[key[0], key[1], key[2]] = executions
        return self


@lru_cache(maxsize=4096)
def _support_keys(point: Point) -> tuple[Key, Key, Key, Key]:
    """What counts a point's batch and length, the lengths on either side, and its alignment."""
    batch, octave, alignment = point.cell
    return (batch, octave, 0), (batch, octave - 1, 0), (batch, octave + 1, 0), (0, 0, alignment)
