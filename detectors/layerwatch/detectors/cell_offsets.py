"""What each shape bucket costs beyond what the regression on shapes says: rows of arrays, since every message asks for many."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, Ints, State
from layerwatch.detectors.shapes import Key, Point

_PRIOR = 1  # executions that a cell's borrowed level counts for
ADAPT_EXECUTIONS = 400  # memory of a settled cell
_MAX_VALUES = 96 * 1024  # offsets kept over all cells: 192 KB as float16
_MAX_CELLS = 1024
_FIRST_ROOM = 8


class CellOffsets:
    """For each cell its executions, offset [outputs] (mean log residual to the regression), and mean row of the basis
    [columns], which lets the offset follow a new fit."""

    def __init__(self, outputs: int, columns: int) -> None:
        self._row: dict[Key, int] = {}
        self._seen = np.zeros(_FIRST_ROOM, np.int64)
        self._offset = np.zeros((_FIRST_ROOM, outputs))
        self._basis = np.zeros((_FIRST_ROOM, columns))
        self._most = min(_MAX_CELLS, max(64, _MAX_VALUES // outputs))

    def __len__(self) -> int:
        return len(self._row)

    def rows(self, points: list[Point]) -> list[int]:
        """Of the points' cells; -1 for one that is not known."""
        return [self._row.get(point.cell, -1) for point in points]

    def seen(self, rows: list[int]) -> Ints:
        """Executions of cells, as `rows` gave them; 0 for one that is not known."""
        seen = self._seen[rows]
        if -1 in rows:
            seen[np.array(rows) < 0] = 0
        return seen

    def offsets(self, rows: list[int]) -> F64:
        """[rows, outputs]; 0 for a cell that is not known."""
        offsets = self._offset[rows]
        if -1 in rows:
            offsets[np.array(rows) < 0] = 0.0
        return offsets

    def settle(self, points: list[Point], counts: Ints, residual: F64, basis: F64) -> None:
        """Move cells towards their executions, quickly at first and slowly once they are known.

        Points of the same cell count one after the other: `counts` [points], mean `residual` [points, outputs] and
        `basis` [points, columns].
        """
        rows = [self._row_of(point.cell) for point in points]
        if len(set(rows)) < len(rows):
            for i in range(len(rows)):
                self._settle([rows[i]], counts[i : i + 1], residual[i : i + 1], basis[i : i + 1])
        else:
            self._settle(rows, counts, residual, basis)

    def _settle(self, rows: list[int], counts: Ints, residual: F64, basis: F64) -> None:
        seen, offset, mean = self._seen[rows] + counts, self._offset[rows], self._basis[rows]
        share = counts / (np.minimum(seen, ADAPT_EXECUTIONS) + _PRIOR)
        self._offset[rows] = offset + (residual - offset) * share[:, None]
        self._basis[rows] = mean + (basis - mean) * (counts / seen)[:, None]
        self._seen[rows] = seen

    def _row_of(self, cell: Key) -> int:
        row = self._row.get(cell)
        if row is None:
            row = self._row[cell] = self._free_row()
        return row

    def _free_row(self) -> int:
        if len(self._row) < self._most:
            if len(self._row) == len(self._seen):
                room = len(self._seen)
                self._seen = np.pad(self._seen, (0, room))
                self._offset = np.pad(self._offset, ((0, room), (0, 0)))
                self._basis = np.pad(self._basis, ((0, room), (0, 0)))
            return len(self._row)
        row = self._row.pop(min(self._row, key=lambda key: int(self._seen[self._row[key]])))
        self._seen[row], self._offset[row], self._basis[row] = 0, 0.0, 0.0
        return row

    def grow(self, columns: int) -> None:
        """Room for so many more columns of the basis."""
        self._basis = np.pad(self._basis, ((0, 0), (0, columns)))

    def follow(self, change: F64) -> None:
        """The regression's weights have become smaller by `change` [columns, outputs]: what was expected stays."""
        known = list(self._row.values())
        self._offset[known] += self._basis[known] @ change

    def state(self, change: F64 | None) -> State:
        """Halves, which are precise enough; the offsets as they are after `follow(change)`."""
        known = list(self._row.values())
        offset, basis = self._offset[known], self._basis[known]
        if change is not None:
            offset = offset + basis @ change
        return {
            "cells": np.array(list(self._row), np.int32).reshape(-1, 3),
            "cell_seen": self._seen[known],
            "cell_offset": offset.astype(np.float16),
            "cell_basis": basis.astype(np.float16),
        }

    @classmethod
    def restore(cls, state: State, outputs: int, columns: int) -> CellOffsets:
        self = cls(outputs, columns)
        count = len(state["cells"])
        if count:
            self._row = {(i, j, k): row for row, (i, j, k) in enumerate(state["cells"].tolist())}
            self._seen = state["cell_seen"].astype(np.int64)
            self._offset = state["cell_offset"].astype(np.float64)
            self._basis = state["cell_basis"].astype(np.float64)
        return self
