"""What models are fitted on: windows and levels of executions that the detectors found healthy. Labels play no part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.feature_log import FeatureLog
from layerwatch.detectors.pooled import NAMES, SCHEMA
from layerwatch.detectors.scorer import Scorer
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.profiles import ProfileBatch


@dataclass(slots=True)
class Harvest:
    """`windows` [n, features] by build, in order; `seconds` and `minutes`: runs of consecutive blocks, log units.

    `outdated`: records whose windows were pooled by another version, and are of no use.
    """

    windows: dict[str, list[F64]] = field(default_factory=dict)
    seconds: list[F64] = field(default_factory=list)
    minutes: list[F64] = field(default_factory=list)
    outdated: int = 0

    def all_windows(self) -> F64:
        """[n, features] of all builds."""
        return np.concatenate([np.empty((0, len(NAMES))), *(w for of in self.windows.values() for w in of)])


def harvest(
    manifests: Iterable[Manifest], batches: Iterable[ProfileBatch], progress: Callable[[int], None]
) -> list[FeatureRecord]:
    """Score the batches of one recording without fitted models, and keep what is healthy. `progress(batches done)`."""
    known = {manifest.engine: manifest for manifest in manifests}
    scorers: dict[str, tuple[Scorer, FeatureLog]] = {}
    out: list[FeatureRecord] = []
    for done, batch in enumerate(batches, 1):
        if batch.instance not in scorers:
            scorers[batch.instance] = Scorer(known), FeatureLog(window_every_s=0.0)
        scorer, log = scorers[batch.instance]
        out += log.add(batch, scorer, scorer.update(batch))
        progress(done)
    for _, log in scorers.values():
        out += log.end()
    return out


def gathered(records: Iterable[FeatureRecord]) -> Harvest:
    """What records hold, each once; those of one instance and build in the order of time."""
    out = Harvest()
    newest: dict[tuple[str, str], float] = {}
    runs: dict[tuple[str, str, str, str], list[F64]] = {}
    for record in records:
        of = record.instance, record.build
        if record.at_s <= newest.get(of, -np.inf):
            continue  # told again after a crash
        newest[of] = record.at_s
        if record.features == SCHEMA and record.columns == len(NAMES):
            windows = np.frombuffer(record.windows, "<f4").reshape(-1, len(NAMES))
            out.windows.setdefault(record.build, []).append(windows.astype(np.float64))
        else:
            out.outdated += 1
        if not record.follows:
            _end(runs, of, out)
        for kind, streams in (("seconds", record.seconds), ("minutes", record.minutes)):
            for stream, levels in streams.items():
                runs.setdefault((*of, kind, stream), []).append(
                    np.frombuffer(levels, "<f4").astype(np.float64)
                )
    for of in newest:
        _end(runs, of, out)
    return out


def _end(runs: dict[tuple[str, str, str, str], list[F64]], of: tuple[str, str], out: Harvest) -> None:
    for key in [key for key in runs if key[:2] == of]:
        run = np.concatenate(runs.pop(key))
        (out.seconds if key[2] == "seconds" else out.minutes).append(run)
