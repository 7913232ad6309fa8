"""What models are fitted on: windows and levels of executions that the detectors found healthy. Labels play no part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.scorer import Scorer
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch


@dataclass(slots=True)
class Harvest:
    """`windows` [n, features], standardised by instance; `levels`: runs of consecutive blocks, log units."""

    windows: list[F64] = field(default_factory=list)
    levels: list[F64] = field(default_factory=list)


def harvest(
    manifests: Iterable[Manifest], batches: Iterable[ProfileBatch], progress: Callable[[int], None]
) -> Harvest:
    """Score the batches of one recording without fitted models, and keep what is healthy. `progress(batches done)`."""
    known = {manifest.engine: manifest for manifest in manifests}
    scorers: dict[str, Scorer] = {}
    out = Harvest()
    runs: dict[tuple[str, str], list[float]] = {}
    for done, batch in enumerate(batches, 1):
        scorer = scorers.setdefault(batch.instance, Scorer(known))
        evidence = scorer.update(batch)
        for window, levels in scorer.healthy():
            if window is not None:
                out.windows.append(window)
            for name, level in levels.items():
                runs.setdefault((batch.instance, name), []).append(level)
        if any(e.severity != "info" for e in evidence.episodes):  # a gap: what comes after it is another run
            out.levels += [np.array(run) for run in runs.values()]
            runs.clear()
        progress(done)
    out.levels += [np.array(run) for run in runs.values()]
    return out
