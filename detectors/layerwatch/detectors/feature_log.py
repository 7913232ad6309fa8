"""What one instance looks like while it is healthy, gathered a minute at a time, for whoever fits models."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.pooled import NAMES, SCHEMA
from layerwatch.detectors.scorer import Evidence, Scorer
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.profiles import ProfileBatch

#: Event time that a record covers (s).
_RECORD_S = 60.0


class _Source(NamedTuple):
    """Whose messages follow upon one another."""

    build: str
    service: str
    instance: str
    boot_ms: int


class FeatureLog:
    """Of one instance, message by message. It is no part of its state: a crash costs a minute of what models are fitted on.

    Args:
        window_every_s: no more than one window in so long (event time): those next to one another say the same.
    """

    def __init__(self, window_every_s: float = 1.0) -> None:
        self._window_every_s = window_every_s
        self._window_s = -math.inf  # of the latest one
        self._of: _Source | None = None
        self._follows = False
        self._clock_s = 0.0
        self._begun_s = math.inf
        self._clear()

    def add(self, batch: ProfileBatch, scorer: Scorer, evidence: Evidence) -> list[FeatureRecord]:
        """Take in what the scorer made of a message; the records that are full with it.

        Trouble is a gap: what comes after it does not follow upon what was before.
        """
        out: list[FeatureRecord] = []
        of = _Source(batch.engine, batch.service, batch.instance, batch.boot_ms)
        if of != self._of:
            out += self.end()
            self._of, self._follows = of, False
        if any(episode.severity != "info" for episode in evidence.episodes):
            out += self.end()
            self._follows = False
            return out
        self._gather(scorer, evidence.clock_s)
        if self._clock_s - self._begun_s >= _RECORD_S or batch.state in ("leaving", "crashed"):
            out += self.end()
        return out

    def end(self) -> list[FeatureRecord]:
        """What has been gathered so far, if anything; what comes next follows upon it."""
        of = self._of
        if of is None or not (self._windows or self._seconds or self._minutes):
            return []
        record = FeatureRecord(
            build=of.build,
            service=of.service,
            instance=of.instance,
            at_s=self._clock_s,
            follows=self._follows,
            features=SCHEMA,
            columns=len(NAMES),
            windows=np.array(self._windows, np.float32).tobytes(),
            seconds={name: _bytes(levels) for name, levels in self._seconds.items()},
            minutes={name: _bytes(levels) for name, levels in self._minutes.items()},
        )
        self._follows = True
        self._clear()
        return [record]

    def _gather(self, scorer: Scorer, clock_s: float) -> None:
        if not math.isfinite(self._begun_s):
            self._begun_s = clock_s  # of what is gathered
        self._clock_s = clock_s
        for window, levels in scorer.healthy():
            if window is not None and not 0 <= clock_s - self._window_s < self._window_every_s:
                self._windows.append(window)
                self._window_s = clock_s
            for name, level in levels.items():
                self._seconds.setdefault(name, []).append(level)
        for name, level in scorer.healthy_minute().items():
            self._minutes.setdefault(name, []).append(level)

    def _clear(self) -> None:
        self._begun_s = math.inf
        self._windows: list[F64] = []
        self._seconds: dict[str, list[float]] = {}
        self._minutes: dict[str, list[float]] = {}


def _bytes(levels: list[float]) -> bytes:
    return np.array(levels, np.float32).tobytes()
