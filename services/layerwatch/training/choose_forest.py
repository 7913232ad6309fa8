"""Whether a forest that was fitted anew is better than the one in use, on healthy windows that neither has seen.

Two things count: how many of them it raises though they are healthy, and how many it recognises once some features are displaced
by as much as a forest is asked about (see `detectors.window_watch`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors.arrays import F64, Bools
from layerwatch.detectors.forest import FlatForest
from layerwatch.training.fit_forest import fit_forest

#: Windows that are needed; the earliest three quarters of a build's are fitted on.
LEAST_WINDOWS = 256
_FIT = 0.75

_COPIES = 16  # displaced ones of each held-out window
_LEAST_FAR, _MOST_FAR = 12.0, 36.0  # healthy spreads, beyond the widest healthy value
_SURE = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the held-out windows as they are, and displaced, that a forest raises."""

    healthy: float
    displaced: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`better`: raises no more healthy windows, and surely tells them from displaced ones better (Youden's J)."""

    forest: FlatForest
    held_out: int
    fitted: Rates
    present: Rates
    better: bool


def split(windows: F64) -> tuple[F64, F64]:
    """Of one build, in the order of time: what is fitted on, and what is held out."""
    cut = int(len(windows) * _FIT)
    return windows[:cut], windows[cut:]


def choose_forest(windows: F64, held_out: F64, present: FlatForest, seed: int = 0) -> Choice:
    """Fit on `windows` [n, features], judge on `held_out` [m, features]. Raises ConfigError where there are too few."""
    forest = fit_forest(windows, seed)
    displaced = _displaced(held_out, np.random.default_rng(seed))
    ours, theirs = _raised(forest, displaced), _raised(present, displaced)
    our_healthy, their_healthy = _raised(forest, held_out), _raised(present, held_out)
    recognised = (
        (ours.astype(float) - theirs).reshape(len(held_out), _COPIES).mean(1)
    )  # a window's copies are alike
    gain = recognised + their_healthy.astype(float) - our_healthy
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    fitted = Rates(float(our_healthy.mean()), float(ours.mean()))
    before = Rates(float(their_healthy.mean()), float(theirs.mean()))
    better = fitted.healthy <= before.healthy and float(gain.mean()) > _SURE * error
    return Choice(forest, len(held_out), fitted, before, better)


def _raised(forest: FlatForest, windows: F64) -> Bools:
    return forest.score(windows) > forest.threshold


def _displaced(windows: F64, draw: np.random.Generator) -> F64:
    """[m x copies, features] each with one feature or more, up to all, raised beyond the widest healthy value."""
    out = np.repeat(windows, _COPIES, axis=0)
    far = np.exp(draw.uniform(np.log(_LEAST_FAR), np.log(_MOST_FAR), out.shape)) + np.abs(windows).max()
    order = draw.random(out.shape).argsort(axis=1)
    chosen = order < draw.integers(1, out.shape[1] + 1, (len(out), 1))
    return np.where(chosen, far, out)
