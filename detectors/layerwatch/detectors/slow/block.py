"""Executions of about a minute, thinned evenly to what a median needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F32, Ints, State

COLUMNS = 6

#: Of a row: the coordinates of its shape, which float32 holds up to 16 million, and the rest.
BATCH, LENGTH, ALIGNMENT, PROFILE, LOG_END_TO_END, LOG_LAYERS = range(COLUMNS)

BLOCK_S = 60.0

_KEPT = 160
_LEAST_EXECUTIONS = 50
_LONGEST_S = 600.0  # a block that is still too small then is dropped


class Thinned:
    """Every 2^k-th of a block's rows, k so that at most `_KEPT` remain: the same rows in every replay."""

    def __init__(self) -> None:
        self.count = 0
        self._stride = 1
        self._rows: list[F32] = []
        self._held = 0

    def rows(self) -> F32:
        """[n, COLUMNS]"""
        return np.concatenate(self._rows) if self._rows else np.empty((0, COLUMNS), np.float32)

    def due(self, count: int) -> Ints:
        """Which of the next `count` rows are to be kept."""
        return np.arange(-self.count % self._stride, count, self._stride)

    def push(self, count: int, rows: F32) -> None:
        """Count `count` rows, and keep those that were `due`."""
        self.count += count
        self._rows.append(rows)
        self._held += len(rows)
        while self._held > _KEPT:
            held = self.rows()[::2]
            self._stride *= 2
            self._rows, self._held = [held], len(held)

    def state(self) -> State:
        # Column by column: shapes repeat, and compress to little next to one another.
        return {"count": self.count, "stride": self._stride, "columns": np.ascontiguousarray(self.rows().T)}

    @classmethod
    def restore(cls, state: State) -> Thinned:
        self = cls()
        self.count, self._stride = state["count"], state["stride"]
        rows = np.ascontiguousarray(state["columns"].T)
        self._rows, self._held = [rows], len(rows)
        return self


@dataclass(frozen=True, slots=True)
class Block:
    """What is left of a minute: `rows` [n, COLUMNS] of all executions, `sampled` [k, COLUMNS] of those whose layers are known."""

    start_s: float
    end_s: float
    executions: int
    disturbed: bool  # something was wrong in it, and told already
    rows: F32
    sampled: F32


class BlockBuffer:
    """The block that is being filled."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.start_s = 0.0
        self.disturbed = False
        self.all, self.sampled = Thinned(), Thinned()

    def close_if_due(self, clock_s: float) -> Block | None:
        """The block, once it is a minute long and holds enough executions."""
        long_s = clock_s - self.start_s
        if not self.start_s or 0 <= long_s < BLOCK_S:
            return None
        if long_s >= 0 and self.all.count < _LEAST_EXECUTIONS and not self.disturbed and long_s < _LONGEST_S:
            return None
        block = Block(
            self.start_s, clock_s, self.all.count, self.disturbed, self.all.rows(), self.sampled.rows()
        )
        self.clear()
        return block if block.executions >= _LEAST_EXECUTIONS and long_s >= 0 else None

    def state(self) -> State:
        return {
            "start_s": self.start_s,
            "disturbed": self.disturbed,
            "all": self.all.state(),
            "sampled": self.sampled.state(),
        }

    @classmethod
    def restore(cls, state: State) -> BlockBuffer:
        self = cls()
        self.start_s, self.disturbed = state["start_s"], state["disturbed"]
        self.all, self.sampled = Thinned.restore(state["all"]), Thinned.restore(state["sampled"])
        return self
