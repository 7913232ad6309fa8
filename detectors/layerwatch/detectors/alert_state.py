"""One open alert of a service: which instances show it, and how it reads."""

from __future__ import annotations

import hashlib
import math

import msgspec

from layerwatch.schemas.alerts import SEVERITIES, Alert, Impact, Sampling, trouble_of
from layerwatch.schemas.signals import Episode, Signal
from layerwatch.schemas.times import rfc3339

#: Event time between two revisions of an alert of which nothing essential has changed (s).
_EVERY_S = 5.0


class Showing(msgspec.Struct):
    """What one instance shows of the trouble."""

    instance: str
    engine: str
    host: str
    gpu: str
    tier: str
    rate: float
    episode: Episode


class AlertState(msgspec.Struct):
    """An alert while it fires. Plain data, so that it can be kept with its service's state."""

    id: str
    kind: str
    service: str
    showing: dict[str, Showing]  # by instance
    opened_s: float
    onset_s: float = math.inf  # earliest of all episodes, also of those that another one has followed
    revision: int = 0
    emitted_s: float = 0.0
    emitted: str = ""  # what the last revision said, in short
    paged: bool = False  # the service's budget had a page for it
    held: str = ""  # why it had none
    fleet: int = 1  # instances of the service that are known

    @classmethod
    def open(cls, signal: Signal, episode: Episode) -> AlertState:
        text = f"{signal.service}|{episode.id}"
        return cls(
            id="a-" + hashlib.sha256(text.encode()).hexdigest()[:16],
            kind=episode.kind,
            service=signal.service,
            showing={},
            opened_s=episode.opened_s,
        )

    @property
    def cause(self) -> str:
        return self.worst.episode.causes[0].cause

    @property
    def trouble(self) -> str:
        return trouble_of(self.kind, self.worst.episode.causes)

    def is_same(self, episode: Episode, engine: str) -> bool:
        """Whether an episode on another instance is the same trouble: of a kind, for one reason, and felt or not.

        What is said of a build is the same for all instances that run it.
        """
        if self.kind == "engine_regression":
            return episode.kind == self.kind and self.worst.engine == engine
        felt = episode.severity != "info"
        return (self.kind, self.cause, self.felt) == (episode.kind, episode.causes[0].cause, felt)

    @property
    def felt(self) -> bool:
        return self.worst.episode.severity != "info"

    @property
    def worst(self) -> Showing:
        """The instance whose requests feel it most."""
        return max(
            self.showing.values(),
            key=lambda s: (SEVERITIES.index(s.episode.severity), s.episode.impact.p99_ratio, s.instance),
        )

    @property
    def severity(self) -> str:
        """Of the worst episode, whatever the budget says."""
        return max((s.episode.severity for s in self.showing.values()), key=SEVERITIES.index)

    @property
    def impact(self) -> Impact:
        return _added([s.episode.impact for s in self.showing.values()])

    @property
    def resolved(self) -> bool:
        return all(s.episode.closed_s is not None for s in self.showing.values())

    def show(self, signal: Signal, episode: Episode) -> None:
        self.onset_s = min(self.onset_s, episode.onset_s)
        before = self.showing.get(signal.instance)
        # An episode that ends because another build is served now was still the former one's.
        ended = before is not None and episode.closed_s is not None
        self.showing[signal.instance] = Showing(
            instance=signal.instance,
            engine=before.engine if before is not None and ended else signal.engine,
            host=signal.host,
            gpu=signal.gpu,
            tier=signal.tier,
            rate=signal.rate,
            episode=episode,
        )

    def revise(self) -> Alert | None:
        """The next revision, if it says anything new or the last one is 5 s old."""
        episodes = [s.episode for s in self.showing.values()]
        updated_s = max(self.emitted_s, *(e.updated_s for e in episodes))
        severity = "info" if self.held and not self.paged else self.severity
        said = f"{self.resolved}|{severity}|{self.cause}|{sorted(self.showing)}"
        if self.kind == "engine_regression":  # its verdict comes after the fact
            said += f"|{sorted({layer.group for layer in self.worst.episode.layers})}"
        if said == self.emitted and updated_s - self.emitted_s < _EVERY_S:
            return None
        self.revision += 1
        self.emitted, self.emitted_s = said, updated_s
        return self._alert(episodes, severity, updated_s)

    def _alert(self, episodes: list[Episode], severity: str, updated_s: float) -> Alert:
        worst = self.worst
        closed = [e.closed_s for e in episodes if e.closed_s is not None]
        return Alert(
            id=self.id,
            revision=self.revision,
            status="resolved" if self.resolved else "firing",
            severity=severity,
            kind=self.kind,
            service=self.service,
            scope=self._scope(),
            instances=sorted(self.showing),
            engine=worst.engine,
            host=worst.host,
            gpu=worst.gpu,
            started_at=rfc3339(self.onset_s),
            opened_at=rfc3339(self.opened_s),
            updated_at=rfc3339(updated_s),
            closed_at=rfc3339(max(closed)) if self.resolved else None,
            summary=worst.episode.summary + self._held_back(),
            impact=self.impact,
            buckets=worst.episode.buckets,
            layers=worst.episode.layers,
            causes=worst.episode.causes,
            detectors=worst.episode.detectors,
            sampling=Sampling(worst.tier, worst.rate),
            fleet=max(self.fleet, len(self.showing)),
        )

    def _held_back(self) -> str:
        return "" if self.paged or not self.held else f" (told as info, not as {self.severity}: {self.held})"

    def _scope(self) -> str:
        showing = list(self.showing.values())
        if len(showing) == 1:
            return "instance"
        if len({s.host for s in showing}) == 1 and showing[0].host:
            return "gpu" if len({s.gpu for s in showing}) == 1 and showing[0].gpu else "host"
        return "service"


def _added(impacts: list[Impact]) -> Impact:
    return Impact(
        executions=sum(i.executions for i in impacts),
        affected=sum(i.affected for i in impacts),
        p50_ratio=max(i.p50_ratio for i in impacts),
        p99_ratio=max(i.p99_ratio for i in impacts),
        baseline_p99_ms=max(i.baseline_p99_ms for i in impacts),
        observed_p99_ms=max(i.observed_p99_ms for i in impacts),
    )
