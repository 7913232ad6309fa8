"""Fits the LSTM of the slow path that ships with the package, on simulated healthy levels, and prints how it does on others.

    python tests/benchmarks/slow_lstm.py [OUT.safetensors]

Recordings last seconds, and this one forecasts minutes. The noise is that of `layerwatch evaluate --null`, drawn with other seeds.
Levels that jump are left out: what has learnt to follow a jump hides it. `layerwatch train` fits another one on what your
instances told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from layerwatch.cli.progress import Progress
from layerwatch.detectors.models import lstm_bytes
from layerwatch.detectors.slow.forecasts import NAMES, Forecasts
from layerwatch.evaluation.noise import KINDS
from layerwatch.training.fit_minutes import fit_minutes

STREAMS, BLOCKS, STEPS = 12, 1440, 3000
JUMPING = ("two_states", "mix_changes")
FIT_SEED, HELD_OUT_SEED = 77_001, 77_002


def main() -> None:
    draw = np.random.default_rng(FIT_SEED)
    steady = [noise for kind, noise in KINDS.items() if kind not in JUMPING]
    runs = [run for noise in steady for run in noise(draw, BLOCKS, STREAMS).T.astype(np.float64)]
    with Progress("fit the LSTM", STEPS, "steps") as progress:
        weights, fit = fit_minutes(runs, progress, STEPS)
    print(
        f"one step ahead, on the ends of the runs: LSTM {fit.lstm:.3f}, EWMA {fit.ewma:.3f}, no change {fit.naive:.3f}"
    )
    print(
        "on streams of another seed, over two days (mean absolute error, 1/1000 log units; share of streams that believe it)\n"
    )
    print(f"{'noise':16s}" + "".join(f"{name:>16s}" for name in NAMES))
    draw = np.random.default_rng(HELD_OUT_SEED)
    for kind, noise in KINDS.items():
        forecasts = Forecasts(STREAMS, weights)
        for block in noise(draw, 2 * BLOCKS, STREAMS).astype(np.float64):
            forecasts.update(block, np.ones(STREAMS, bool))
        loss = 1000 * forecasts._loss.mean(0)
        share = np.bincount(forecasts.champion, minlength=len(NAMES)) / STREAMS
        print(f"{kind:16s}" + "".join(f"{a:10.2f} {b:5.0%}" for a, b in zip(loss, share, strict=True)))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(lstm_bytes(weights))


if __name__ == "__main__":
    main()
