"""The scoring core: `Scorer(manifests).update(batch) -> Evidence`, for one instance. Knows neither Kafka nor faust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from layerwatch.detectors.arrays import F64, State, median
from layerwatch.detectors.batch import executions_of
from layerwatch.detectors.build_scorer import BuildScorer
from layerwatch.detectors.models import Models
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import MissingManifest
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.signals import Episode

#: Builds whose baselines an instance keeps: the present one, and those it may return to.
_BUILDS = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a batch showed. `episodes`: the open one, if any, and those that closed within the batch."""

    clock_s: float
    executions: int
    end_to_end_p50_ms: float
    warming_up: bool
    episodes: list[Episode] = field(default_factory=list)
    slow_path: str = "learning"


class Scorer:
    """Scores one instance's batches, in order. Not thread-safe.

    Args:
        manifests: engine build to its manifest; may grow while in use.
        models: fitted models; `layerwatch.detectors.models.shipped()` has the default ones.
    """

    def __init__(self, manifests: Mapping[str, Manifest], models: Models | None = None) -> None:
        self._manifests = manifests
        self.models = models or Models()
        self._builds: dict[str, BuildScorer] = {}
        self._current: str | None = None

    def update(self, batch: ProfileBatch) -> Evidence:
        """Judge a batch.

        Raises:
            MissingManifest: the batch's engine is not in `manifests`.
            InvalidRecord: the batch contradicts its manifest, or holds impossible times. Nothing has changed then.
        """
        manifest = self._manifests.get(batch.engine)
        if manifest is None:
            raise MissingManifest(batch.engine)
        executions = executions_of(batch, manifest)
        episodes = self._switch(batch.instance, manifest, batch.window_start_s)
        build = self._builds[batch.engine]
        episodes += build.update(executions, self.models)
        if batch.state in ("leaving", "crashed"):
            episodes = [ep for ep in episodes if ep.closed_s is not None] + build.close(executions.clock_s)
        return Evidence(
            clock_s=executions.clock_s,
            executions=len(executions),
            end_to_end_p50_ms=median(executions.end_to_end_ms) if len(executions) else 0.0,
            warming_up=build.warming_up,
            episodes=episodes,
            slow_path=build.slow.status,
        )

    def _switch(self, instance: str, manifest: Manifest, clock_s: float) -> list[Episode]:
        """Make the manifest's build the present one; what was open on another one ends."""
        engine = manifest.engine
        if engine == self._current:
            return []
        closed = self._builds[self._current].close(clock_s) if self._current in self._builds else []
        known = self._builds.pop(engine, None) or BuildScorer(instance, manifest)
        self._builds[engine] = known  # newest last
        while len(self._builds) > _BUILDS:
            del self._builds[next(iter(self._builds))]
        self._current = engine
        return closed

    def healthy(self) -> list[tuple[F64 | None, dict[str, float]]]:
        """What the latest update holds to fit models on: standardised windows, levels of blocks; from healthy chunks."""
        return self._builds[self._current].healthy if self._current in self._builds else []

    def reboot(self) -> None:
        """The process has started anew: baselines stay, windows and an open episode of the old one go."""
        for build in self._builds.values():
            build.reboot()

    @property
    def learned(self) -> int:
        """Executions that the present build's baselines rest on."""
        return self._builds[self._current].learned if self._current in self._builds else 0

    def hot(self) -> State:
        """Small state that changes with every batch."""
        return {"current": self._current, "builds": {engine: b.hot() for engine, b in self._builds.items()}}

    @property
    def slow_blocks(self) -> tuple[str | None, int]:
        """The present build and how many blocks its slow path has judged: `slow` changes with them alone."""
        return self._current, self._builds[self._current].slow.judged if self._current in self._builds else 0

    def slow(self) -> State:
        """The slow path's; it goes with the hot state of the same message."""
        return {engine: build.slow.slow() for engine, build in self._builds.items()}

    def heavy(self) -> State:
        """Baselines; may be some seconds older than the hot state when restored."""
        return {engine: build.heavy() for engine, build in self._builds.items()}

    @classmethod
    def restore(
        cls,
        instance: str,
        manifests: Mapping[str, Manifest],
        models: Models,
        hot: State,
        heavy: State | None,
        slow: State | None,
    ) -> Scorer:
        """Raises MissingManifest when a build's manifest is not there (yet)."""
        self = cls(manifests, models)
        for engine, state in hot["builds"].items():
            manifest = manifests.get(engine)
            if manifest is None:
                raise MissingManifest(engine)
            self._builds[engine] = BuildScorer.restore(
                instance, manifest, state, (heavy or {}).get(engine), (slow or {}).get(engine)
            )
        self._current = hot["current"]
        return self
