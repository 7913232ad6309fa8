"""layerwatch as a simulated service meets it: told what was executed, and asked what an autoscaler would be told."""

from __future__ import annotations

from typing import Protocol

from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.models import Models
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.loop.obedience import Obedience
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch


class Watching(Protocol):
    def manifest(self, manifest: Manifest) -> None: ...

    def update(self, batch: ProfileBatch) -> None: ...

    def told(self, now_s: float) -> tuple[list[Alert], list[Decision]]:
        """What has been said since the last call, now that it is `now_s` of event time."""

    def replicas(self, there: int, now_s: float) -> int:
        """To order at least, where so many serve without any decision."""


class InProcess:
    """All stages in this process. Its autoscaler adds `added` replicas while a decision asks for more."""

    def __init__(self, rules: Rules, models: Models, added: int) -> None:
        self._pipeline = Pipeline(models, rules)
        self._added = added
        self._obedience = Obedience()
        self._said: tuple[list[Alert], list[Decision]] = [], []

    def manifest(self, manifest: Manifest) -> None:
        self._pipeline.manifest(manifest)

    def update(self, batch: ProfileBatch) -> None:
        alerts, decisions = self._pipeline.update(batch)
        self._said[0].extend(alerts)
        self._said[1].extend(decisions)
        self._obedience.hear(decisions)

    def told(self, now_s: float) -> tuple[list[Alert], list[Decision]]:
        said, self._said = self._said, ([], [])
        return said

    def replicas(self, there: int, now_s: float) -> int:
        return there + (self._added if self._obedience.wants_more(now_s) else 0)
