"""What the slow path tells a service: one episode an instance, however many of its streams are part of it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from layerwatch.detectors.arrays import State
from layerwatch.schemas.alerts import Cause, DetectorScore, Impact
from layerwatch.schemas.signals import Episode

_THROTTLED = 0.04  # log units: the SM clock is so far below its usual value


@dataclass(frozen=True, slots=True)
class Rise:
    """What one stream shows, worded for a person. `shift` and `total` in log units."""

    what: str
    kind: str  # shift or creep
    shift: float
    total: float  # above what the build cost when it was learnt
    minutes: float
    usual: float  # of a creep, the largest rise to be expected; of a shift, its evidence
    threshold: float
    degraded: bool

    @property
    def sentence(self) -> str:
        above = f"{_percent(self.total)} above what this build cost when it was learnt"
        doubt = (
            "; only worth knowing, since this level's deviations depend on one another"
            if self.degraded
            else ""
        )
        if self.kind == "creep":
            usual = f"{_percent(self.usual)} at most was to be expected"
            return f"{self.what} rose by {_percent(self.shift)} in {self.minutes:.0f} min, where {usual}; {above}{doubt}"
        evidence = f"by chance {_once_in(self.usual)}"
        return f"{self.what} has been {_percent(self.shift)} higher for {self.minutes:.0f} min ({evidence}); {above}{doubt}"

    @property
    def score(self) -> DetectorScore:
        if self.kind == "creep":
            return DetectorScore("slow_creep", round(self.shift, 4), round(self.usual, 4))
        return DetectorScore("slow_shift", float(f"{self.usual:.4g}"), float(f"{self.threshold:.4g}"))


@dataclass(slots=True)
class Precursor:
    """An episode of the slow path while it lasts."""

    id: str
    onset_s: float
    opened_s: float
    updated_s: float
    severity: str
    executions: int = 0
    closed_s: float | None = None
    worst: Rise | None = None
    clock_drop: float = 0.0

    @classmethod
    def open(cls, instance: str, engine: str, onset_s: float, opened_s: float) -> Precursor:
        """The id depends on what happened and when, never on when it was processed."""
        text = f"{instance}|{engine}|precursor|{onset_s * 1000:.0f}"
        return cls(hashlib.sha256(text.encode()).hexdigest()[:16], onset_s, opened_s, opened_s, "info")

    def note(self, rises: list[Rise], executions: int, clock_drop: float, time_s: float) -> None:
        """What a block showed; a stream that can be believed makes it a warning, for good."""
        self.updated_s = time_s
        self.executions += executions
        self.clock_drop = clock_drop
        if not rises:
            return
        self.worst = max(rises, key=lambda rise: (not rise.degraded, rise.shift))
        if not self.worst.degraded:
            self.severity = "warning"

    def snapshot(self, felt: float) -> Episode:
        """`felt`: log-ratio of end-to-end times to what they were when the build was learnt."""
        assert self.worst is not None
        ratio = round(math.exp(max(felt, 0.0)), 3)
        return Episode(
            id=self.id,
            kind="precursor",
            severity=self.severity,
            onset_s=self.onset_s,
            opened_s=self.opened_s,
            updated_s=self.updated_s,
            closed_s=self.closed_s,
            summary=self.worst.sentence,
            # Blocks know medians only.
            impact=Impact(self.executions, 0, ratio, ratio, 0.0, 0.0),
            causes=[self._cause()],
            detectors=[self.worst.score],
        )

    def _cause(self) -> Cause:
        assert self.worst is not None
        if self.clock_drop > _THROTTLED:
            text = f"the SM clock is {_percent(self.clock_drop)} below its usual value; {self.worst.sentence}"
            return Cause("clock_throttle", 0.6, text)
        return Cause("unknown", 0.3, self.worst.sentence)

    def state(self) -> State:
        head = [self.id, self.onset_s, self.opened_s, self.updated_s, self.severity, self.executions]
        rise = None if self.worst is None else [getattr(self.worst, name) for name in Rise.__slots__]
        return {"head": head, "worst": rise, "clock_drop": self.clock_drop}

    @classmethod
    def restore(cls, state: State) -> Precursor:
        worst = None if state["worst"] is None else Rise(*state["worst"])
        self = cls(*state["head"])
        self.worst, self.clock_drop = worst, state["clock_drop"]
        return self


def _percent(log_ratio: float) -> str:
    return f"{100 * math.expm1(log_ratio):.1f} %"


def _once_in(blocks: float) -> str:
    days = blocks / (60 * 24)
    if days >= 36_500:
        return "less than once in a century"
    return f"once in {days / 365:.0f} years" if days >= 730 else f"once in {days:.0f} days"
