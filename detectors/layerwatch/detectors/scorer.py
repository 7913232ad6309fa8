"""The scoring core: `Scorer(manifests).update(batch) -> Evidence`, for one instance. Knows neither Kafka nor faust."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from layerwatch.detectors.arrays import F64, State, median
from layerwatch.detectors.batch import executions_of
from layerwatch.detectors.build_scorer import BuildScorer
from layerwatch.detectors.models import Models
from layerwatch.detectors.priors import Prior, Priors, packed
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import InvalidRecord, MissingManifest
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.signals import Episode

#: Builds whose baselines an instance keeps: the present one, and those it may return to.
_BUILDS = 3

_PRIOR_EXECUTIONS = 1000  # that a baseline rests on before others may start from it


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a batch showed. `episodes`: the open one, if any, and those that closed within the batch."""

    clock_s: float
    executions: int
    end_to_end_p50_ms: float
    warming_up: bool
    episodes: list[Episode] = field(default_factory=list)
    slow_path: str = "learning"
    suspected: list[str] = field(default_factory=list)  # channels that are reason to sample more
    settled: bool = True  # baselines stand: more samples would teach little


class Scorer:
    """Scores one instance's batches, in order. Not thread-safe.

    Args:
        manifests: engine build to its manifest; may grow while in use.
        models: fitted models; `layerwatch.detectors.models.shipped()` has the default ones.
        priors: what other instances know of builds; may grow while in use.
    """

    def __init__(
        self,
        manifests: Mapping[str, Manifest],
        models: Models | None = None,
        priors: Priors | None = None,
    ) -> None:
        self._manifests = manifests
        self._priors = priors
        self.models = models or Models()
        self._builds: dict[str, BuildScorer] = {}
        self._borrowed: set[str] = set()  # of `_builds`: known from a prior, never served here
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
        episodes = self._switch(batch.instance, batch.service, manifest, batch.window_start_s)
        build = self._builds[batch.engine]
        build.describe(manifest)
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
            suspected=build.suspected,
            settled=build.settled,
        )

    def _switch(self, instance: str, service: str, manifest: Manifest, clock_s: float) -> list[Episode]:
        """Make the manifest's build the present one; what was open on another one ends."""
        engine = manifest.engine
        if engine == self._current:
            return []
        if self._current is None:
            self._borrow(instance, service, engine, clock_s)
        before = next(reversed(self._builds.values()), None)
        closed = before.close(clock_s) if before is not None else []
        returned = engine in self._builds and engine not in self._borrowed
        known = self._builds.pop(engine, None) or self._begun(instance, manifest, clock_s)
        self._builds[engine] = known  # newest last
        self._borrowed.discard(engine)
        if before is not None and before is not known:
            known.compare_with(before.reference(), returned=returned)
        while len(self._builds) > _BUILDS:
            del self._builds[next(iter(self._builds))]
        self._current = engine
        return closed

    def _begun(self, instance: str, manifest: Manifest, clock_s: float) -> BuildScorer:
        """A build that is new to this instance: from its prior where there is one, else from nothing."""
        prior = self._priors.of(manifest.engine, clock_s) if self._priors is not None else None
        if prior is not None:
            with suppress(InvalidRecord):
                return BuildScorer.from_prior(instance, manifest, prior.state())
        return BuildScorer(instance, manifest)

    def _borrow(self, instance: str, service: str, engine: str, clock_s: float) -> None:
        """For an instance's first build: the one that its siblings ran last is the one before."""
        prior = self._priors.other_of(service, engine, clock_s) if self._priors is not None else None
        manifest = self._manifests.get(prior.build) if prior is not None else None
        if prior is not None and manifest is not None:
            with suppress(InvalidRecord):
                self._builds[prior.build] = BuildScorer.from_prior(instance, manifest, prior.state())
                self._borrowed.add(prior.build)

    def prior(self, service: str, at_s: float) -> Prior | None:
        """What this instance could tell others of its present build; None while it knows too little or has trouble."""
        build = self._builds.get(self._current or "")
        if (
            build is None
            or build.warming_up
            or build.episode is not None
            or build.learned < _PRIOR_EXECUTIONS
        ):
            return None
        assert self._current is not None
        return Prior(self._current, service, at_s, build.learned, packed(build.prior()))

    def healthy(self) -> list[tuple[F64 | None, dict[str, float]]]:
        """What the latest update holds to fit models on: standardised windows, levels of blocks; from healthy chunks."""
        return self._builds[self._current].healthy if self._current in self._builds else []

    def healthy_minute(self) -> dict[str, float]:
        """Levels of the healthy block of a minute that ended with the latest update, by stream; mostly none."""
        return self._builds[self._current].slow.healthy_minute if self._current in self._builds else {}

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
        return {
            "current": self._current,
            "borrowed": sorted(self._borrowed),
            "builds": {engine: b.hot() for engine, b in self._builds.items()},
        }

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
        priors: Priors | None = None,
    ) -> Scorer:
        """Raises MissingManifest when a build's manifest is not there (yet)."""
        self = cls(manifests, models, priors)
        self._borrowed = set(hot["borrowed"])
        for engine, state in hot["builds"].items():
            manifest = manifests.get(engine)
            if manifest is None:
                raise MissingManifest(engine)
            self._builds[engine] = BuildScorer.restore(
                instance, manifest, state, (heavy or {}).get(engine), (slow or {}).get(engine)
            )
        self._current = hot["current"]
        for engine, state in hot["builds"].items():
            compared = state["comparison"]
            before = self._builds.get(compared["reference"]) if compared is not None else None
            if before is not None:
                saved = (heavy or {}).get(engine) or {}
                self._builds[engine].resume_comparison(before.reference(), compared, saved.get("comparison"))
        return self
