"""The score of the Numenta Anomaly Benchmark, written from its paper (Lavin and Ahmad 2015) and its published settings.

A detection inside a window of anomaly is worth up to 1, the more the earlier; only the first one of a window counts. A
detection outside costs up to `fp_weight`, less if it comes soon after a window. A missed window costs 1. The threshold is the one
that is best over all files, and 0 is a detector that says nothing, 100 a perfect one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from layerwatch.detectors.arrays import F64, Ints

_FP_WEIGHT = 0.11  # of the standard profile
_PROBATION, _PROBATION_ROWS = 0.15, 5000
_FAR = 3.0  # window widths


@dataclass(frozen=True, slots=True)
class Series:
    """One file: `values` [n], and which rows [windows, 2] begin and end its windows."""

    name: str
    values: F64
    windows: Ints

    @property
    def probation(self) -> int:
        """Rows that are not scored."""
        return int(np.ceil(min(np.floor(_PROBATION * len(self.values)), _PROBATION * _PROBATION_ROWS)))


def corpus(folder: Path) -> list[Series]:
    """All files of the benchmark's `data` with its `labels`."""
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    return [_series(folder / "data" / name, name, limits) for name, limits in sorted(windows.items())]


def _series(path: Path, name: str, limits: list[list[str]]) -> Series:
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    times = {datetime.fromisoformat(row[0]): i for i, row in reversed(list(enumerate(rows)))}
    ends = [[times[datetime.fromisoformat(text)] for text in window] for window in limits]
    return Series(name, np.array([float(row[1]) for row in rows]), np.array(ends, np.int64).reshape(-1, 2))


def nab_score(files: list[Series], scores: Mapping[str, F64]) -> tuple[float, float]:
    """(standard score, threshold) of anomaly scores [n] by file."""
    values, worth, window = [], [], []
    known = 0
    for file in files:
        file_worth, file_window = _worth(file)
        scored = np.arange(len(file.values)) >= file.probation
        values.append(scores[file.name][scored])
        worth.append(file_worth[scored])
        window.append(np.where(file_window >= 0, file_window + known, -1)[scored])
        known += len(file.windows)
    best, threshold = _best(np.concatenate(values), np.concatenate(worth), np.concatenate(window))
    scorable = len(np.unique(np.concatenate(window))) - 1
    return 100 * (best + scorable) / (known + scorable), threshold


def _worth(file: Series) -> tuple[F64, Ints]:
    """Of a detection at each row, and the window that the row is in, -1 for none."""
    rows = np.arange(len(file.values))
    worth, inside = np.full(len(rows), -1.0 * _FP_WEIGHT), np.full(len(rows), -1)
    for i, (first, last) in enumerate(file.windows):
        width = last - first + 1
        after = rows > last
        if width > 1:
            past = (rows[after] - last) / (width - 1)
            worth[after] = _FP_WEIGHT * np.where(past > _FAR, -1.0, _sigmoid(past))
        within = (rows >= first) & (rows <= last)
        worth[within] = _sigmoid(-(last - rows[within] + 1) / width) / _sigmoid(np.array(-1.0))
        inside[within] = i
    return worth, inside


def _sigmoid(position: F64) -> F64:
    out: F64 = 2 / (1 + np.exp(5 * position)) - 1
    return out


def _best(values: F64, worth: F64, window: Ints) -> tuple[float, float]:
    """The highest sum over all thresholds, and the threshold."""
    order = np.argsort(-values, kind="stable")
    values, worth, window = values[order], worth[order], window[order]
    gain = np.where(window < 0, worth, 0.0)
    best_of: dict[int, float] = {}
    for row in np.flatnonzero(window >= 0):
        which = int(window[row])
        before = best_of.get(which, -1.0)
        best_of[which] = max(before, float(worth[row]))
        gain[row] = best_of[which] - before
    missed = -float(len(best_of))
    total = missed + np.cumsum(gain)
    last = np.append(values[1:] != values[:-1], True)  # a threshold takes all rows of one value
    at = int(np.argmax(np.where(last, total, -np.inf)))
    return (float(total[at]), float(values[at])) if total[at] > missed else (missed, np.inf)
