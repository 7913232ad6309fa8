"""What an execution of a given shape should take: a robust, incremental, shape-conditional baseline of log latencies.

A ridge regression on the shape basis says what any shape costs; a cell (exact batch, half octave of length) keeps its own
offset from it, trusted as executions arrive, so a shape never seen borrows and then finds its own level. Latencies are
logarithms with a floor of half the timer's tick, since an error of one tick is nothing for a long layer and
everything for a short one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State, clipped
from layerwatch.detectors.shapes import Key, Point, ShapeBasis

#: Half a tick of the GPU's timer (source: recordings, ticks of about 1 us).
FLOOR_MS = 5e-4

#: Executions that a baseline rests on before it judges; where few are sampled, waiting for as many takes too long.
SUPPORT, SPARSE_SUPPORT = 8, 3

_FIRST_SOLVE = 64
_CLIP_NEW = 6.0  # log units; a shape never seen may cost 400 times what it borrows
_CLIP_LEARNING = 0.5  # an outlier moves the fit by no more than this
_CLIP_ADAPTING = 0.2
_PRIOR = 1  # executions that a cell's borrowed level counts for
_ADAPT_EXECUTIONS = 400  # memory of a settled cell
_MAX_CELL_VALUES = 96 * 1024  # offsets kept over all cells: 192 KB as float16
_MAX_CELLS = 1024
_SETTLED_STRIDE = 4


@dataclass(slots=True)
class _Cell:
    seen: int
    offset: F64  # [outputs] mean log residual to the regression
    basis: F64  # [columns] mean of the basis over its executions: lets the offset follow a new fit


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
        self._cells: dict[Key, _Cell] = {}
        self._support: Counter[Key] = Counter()  # executions by batch and length, and by alignment
        self._turn = 0

    @property
    def fitted(self) -> bool:
        return self._weights is not None

    def expected(self, points: list[Point]) -> tuple[F64, Ints]:
        """(log ms [points, outputs], executions that each one rests on [points]); needs `fitted`.

        Those of the point's cell; or those of the same batch and length in any alignment, and half of those of the
        neighbouring lengths, if the alignment is known too.
        """
        assert self._weights is not None
        log_ms = self._basis(points) @ self._weights
        support = np.zeros(len(points), np.int64)
        for row, point in enumerate(points):
            cell = self._cells.get(point.cell)
            if cell is not None:
                log_ms[row] += cell.offset
            support[row] = max(cell.seen if cell else 0, self._borrowed(point))
        return log_ms, support

    def _borrowed(self, point: Point) -> int:
        size, alignment = _support_keys(point.cell)
        batch, octave, _ = size
        beside = self._support[batch, octave - 1, 0] + self._support[batch, octave + 1, 0]
        return min(self._support[size] + beside // 2, self._support[alignment])

    def learn(self, points: list[Point], shape: Ints, log_ms: F64) -> None:
        """Fold in healthy executions: `shape` [k] into `points`, `log_ms` [k, outputs]."""
        counts = np.bincount(shape, minlength=len(points))
        used = np.flatnonzero(counts)
        points, counts = [points[i] for i in used], counts[used]
        weight = self._weight(points)
        if not weight:
            return
        remap = np.full(int(used.max()) + 1, -1)
        remap[used] = np.arange(len(used))
        self._grow(points)
        basis = self._basis(points)
        if self._weights is not None:
            log_ms = self._tame(points, remap[shape], log_ms)
        belongs = (remap[shape] == np.arange(len(points))[:, None]).astype(float)
        sums = weight * (belongs @ log_ms)
        counts = weight * counts
        self._gram += basis.T @ (basis * counts[:, None])
        self._moment += basis.T @ sums
        self.seen += int(counts.sum())
        for point, count in zip(points, counts, strict=True):
            for key in _support_keys(point.cell):
                self._support[key] += int(count)
        if self._weights is not None:
            self._settle(points, basis, counts, sums)
        if self.seen >= self._next_solve:
            self._solve()
            self._next_solve = int(self.seen * 1.5)

    def shift(self, log_ratio: float) -> None:
        """Expect all latencies to be longer by so much: the level of an instance that differs from the build's."""
        if self._weights is not None:
            self._weights[0] += log_ratio
            self._moment += self._gram[:, :1] * log_ratio

    def _weight(self, points: list[Point]) -> int:
        """0 to pass over a message: once all its shapes are settled, one of four stands for the four."""
        cells = [self._cells.get(point.cell) for point in points]
        if any(cell is None or cell.seen < _ADAPT_EXECUTIONS for cell in cells):
            return 1
        self._turn = (self._turn + 1) % _SETTLED_STRIDE
        return 0 if self._turn else _SETTLED_STRIDE

    def _tame(self, points: list[Point], shape: Ints, log_ms: F64) -> F64:
        expected, _ = self.expected(points)
        cells = [self._cells.get(point.cell) for point in points]
        seen = np.array([cell.seen if cell else 0 for cell in cells])
        clip = np.where(
            seen < SUPPORT, _CLIP_NEW, np.where(seen < _ADAPT_EXECUTIONS, _CLIP_LEARNING, _CLIP_ADAPTING)
        )
        limit = clip[shape][:, None]
        return expected[shape] + clipped(log_ms - expected[shape], limit)

    def _settle(self, points: list[Point], basis: F64, counts: Ints, sums: F64) -> None:
        """Move each cell's offset towards its executions, quickly at first and slowly once it is known."""
        assert self._weights is not None
        residual = sums / counts[:, None] - basis @ self._weights
        for row, point in enumerate(points):
            cell = self._cells.get(point.cell)
            if cell is None:
                cell = self._new_cell(point)
            k = int(counts[row])
            cell.offset += (residual[row] - cell.offset) * (
                k / (min(cell.seen + k, _ADAPT_EXECUTIONS) + _PRIOR)
            )
            cell.basis += (basis[row] - cell.basis) * (k / (cell.seen + k))
            cell.seen += k

    def _new_cell(self, point: Point) -> _Cell:
        if len(self._cells) >= min(_MAX_CELLS, max(64, _MAX_CELL_VALUES // self.outputs)):
            del self._cells[min(self._cells, key=lambda key: self._cells[key].seen)]
        cell = self._cells[point.cell] = _Cell(0, np.zeros(self.outputs), np.zeros(len(self._basis)))
        return cell

    def _solve(self) -> None:
        weights = self._fit()
        if self._weights is not None:
            for cell in self._cells.values():
                cell.offset += cell.basis @ (self._weights - weights)
        self._weights = weights

    def _fit(self) -> F64:
        penalty = np.diag(self._basis.penalty())
        return np.asarray(np.linalg.solve(self._gram + penalty, self._moment), np.float64)

    def _grow(self, points: list[Point]) -> None:
        """New columns begin as their nearest neighbours, so that what was borrowed stays until there is more."""
        self._basis.grow(points)
        known = len(self._gram)
        extra = len(self._basis) - known
        if extra:
            self._gram = np.pad(self._gram, ((0, extra), (0, extra))).astype(np.float64)
            self._moment = np.pad(self._moment, ((0, extra), (0, 0))).astype(np.float64)
            if self._weights is not None:
                nearest = self._basis.nearest(known)
                borrowed = [np.zeros(self.outputs) if c is None else self._weights[c] for c in nearest]
                self._weights = np.concatenate((self._weights, borrowed))
            for cell in self._cells.values():
                cell.basis = np.pad(cell.basis, (0, extra)).astype(np.float64)

    def state(self) -> State:
        """Halves where they are precise enough. The moment follows from the fit, which is cheaper to keep."""
        cells = list(self._cells.values())
        weights = self._fit()
        offsets = [cell.offset for cell in cells]
        if self._weights is not None:
            offsets = [cell.offset + cell.basis @ (self._weights - weights) for cell in cells]
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
            "cells": np.array(list(self._cells), np.int32).reshape(-1, 3),
            "support": np.array([[*key, n] for key, n in self._support.items()], np.int64).reshape(-1, 4),
            "cell_seen": np.array([cell.seen for cell in cells]),
            "cell_offset": np.array(offsets, np.float16),
            "cell_basis": np.array([cell.basis for cell in cells], np.float16),
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
        for row, (batch, octave, alignment) in enumerate(state["cells"]):
            key = (int(batch), int(octave), int(alignment))
            self._cells[key] = _Cell(
                int(state["cell_seen"][row]),
                state["cell_offset"][row].astype(np.float64),
                state["cell_basis"][row].astype(np.float64),
            )
        for *key, executions in state["support"].tolist():
            self._support[key[0], key[1], key[2]] = executions
        return self


def _support_keys(cell: Key) -> tuple[Key, Key]:
    batch, octave, alignment = cell
    return (batch, octave, 0), (0, 0, alignment)
