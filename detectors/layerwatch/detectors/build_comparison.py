"""A build that an instance has begun to serve, against the one before: a fact at once, a verdict as evidence comes in.

For each block and size of input two one-sided tests say slower, equivalent, or not yet known; the margin is the old
build's own latest drift. The verdict is an episode: info for the fact, an equivalent build and small or rare losses, a
warning once a block costs a tenth more over all the traffic seen.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from layerwatch.detectors.arrays import Bools, State
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.block_levels import size_of
from layerwatch.detectors.build_reference import BuildReference
from layerwatch.detectors.build_verdict import Verdict, judged
from layerwatch.detectors.impact import ImpactTally
from layerwatch.detectors.lane_comparison import LEAST_EFFECT, LaneComparison
from layerwatch.detectors.shapes import Point, point_of
from layerwatch.schemas.alerts import BucketImpact, Cause, DetectorScore, LayerExcess
from layerwatch.schemas.engines import Layer
from layerwatch.schemas.signals import Episode

_ENOUGH = 200  # sampled executions before a build can be called equivalent
_LOOK_EVERY = 16  # sampled executions
_CONCLUDED = 1500  # ... after which nothing is added: what is still unknown then stays so
_GIVEN_UP = 50_000  # executions, where hardly any is sampled or no layer can be matched
_LISTED_LAYERS, _LISTED_BUCKETS = 10, 5


class BuildComparison:
    """From the first execution of `engine` on; `returned`: the instance has served it before."""

    def __init__(
        self,
        instance: str,
        engine: str,
        reference: BuildReference,
        layers: dict[int, list[Layer]],
        returned: bool,
    ) -> None:
        self.reference = reference
        self._engine = engine
        self._returned = returned
        self._instance = instance
        self._onset_s = self._opened_s = self._updated_s = 0.0  # 0 before the first execution
        self._severity = "info"
        self._tally = ImpactTally()
        self._shapes: dict[tuple[int, int], dict[str, list[int]]] = {}  # (profile, size): the largest seen
        self._largest: dict[tuple[int, int], int] = {}  # elements of those
        self._verdict = Verdict()
        self._judged = 0  # executions at the last look
        lanes = {
            profile: LaneComparison(reference.lanes[profile], mine)
            for profile, mine in layers.items()
            if profile in reference.lanes
        }
        self._lanes = {profile: lane for profile, lane in lanes.items() if lane.comparable}
        self._served = 0  # executions, sampled or not

    @property
    def begun(self) -> bool:
        """Whether the build has executed anything yet."""
        return self._opened_s > 0

    @property
    def executions(self) -> int:
        """Sampled executions that were compared."""
        return sum(lane.executions for lane in self._lanes.values())

    @property
    def over(self) -> bool:
        """Nothing more is to be said: no slower, wherever enough was seen. A slower build is a fact as long as it serves."""
        if self._verdict.losses:
            return False
        known = self.executions >= _ENOUGH and self._equivalent
        return known or self.executions >= _CONCLUDED or self._served >= _GIVEN_UP

    @property
    def _equivalent(self) -> bool:
        v = self._verdict
        return bool(v.equivalent) and not v.unknown and v.level_known and not v.losses

    def add(self, batch: Executions, points: list[Point], fit: Bools) -> None:
        """`fit` [n]: executions of the batch that are neither cold nor part of other trouble."""
        if self.executions >= _CONCLUDED or not len(batch):
            return
        if not self.begun:
            self._opened_s = float(batch.times_s[0])
            self._onset_s = self._opened_s - float(batch.end_to_end_ms[0]) / 1e3
        self._updated_s = max(self._updated_s, float(batch.times_s[-1]))
        self._served += len(batch)
        expected = self.reference.end_to_end.expected(batch, points)
        if expected is not None and (known := fit & expected.known).any():
            expected_ms, observed_ms = expected.shape_ms[known], batch.end_to_end_ms[known]
            self._tally.add(np.log(observed_ms / expected_ms), observed_ms, expected_ms)
        for block in batch.layers:
            if block.profile in self._lanes:
                self._lanes[block.profile].add(batch, block, points, fit[block.rows])
                self._remember_shapes(block.profile, batch, points)
        if self.executions - self._judged >= _LOOK_EVERY or not self._judged:
            self._judged = self.executions
            self._judge()

    def episode(self, closed_s: float | None = None) -> Episode:
        """As it stands; with `closed_s`, its end."""
        losses = self._verdict.losses
        updated_s = self._updated_s if closed_s is None else max(closed_s, self._updated_s)
        worst = losses[0] if losses else None
        score = float(np.exp(worst.ratio)) if worst else 1.0
        margin = float(np.exp(worst.margin if worst else LEAST_EFFECT))
        text = f"{self._instance}|{self._engine}|{self.reference.engine}|{self._onset_s * 1000:.0f}"
        return Episode(
            id=hashlib.sha256(text.encode()).hexdigest()[:16],
            kind="engine_regression",
            severity=self._severity,
            onset_s=self._onset_s,
            opened_s=self._opened_s,
            updated_s=updated_s,
            closed_s=None if closed_s is None else updated_s,
            summary=self._summary(),
            impact=self._tally.impact(),
            buckets=self._buckets(),
            layers=self._layers(),
            causes=[Cause("engine_change", 0.9 if losses else 0.5, self._evidence())],
            detectors=[DetectorScore("build_comparison", round(score, 3), round(margin, 3))],
        )

    def _judge(self) -> None:
        self._verdict = judged(self._lanes)
        if any(loss.material for loss in self._verdict.losses) and not self._returned:
            self._severity = "warning"

    def _remember_shapes(self, profile: int, batch: Executions, points: list[Point]) -> None:
        for point, shape in zip(points, batch.shapes, strict=True):
            key = profile, size_of(point)
            elements = point.batch * point.length
            if elements > self._largest.get(key, 0):
                self._largest[key], self._shapes[key] = elements, shape

    def _layers(self) -> list[LayerExcess]:
        found = []
        for profile, lane in self._lanes.items():
            worst = {loss.block: loss.sizes for loss in self._verdict.losses if loss.profile == profile}
            found += lane.layers(worst)
        return sorted(found, key=lambda layer: -layer.excess_ms)[:_LISTED_LAYERS]

    def _buckets(self) -> list[BucketImpact]:
        """The sizes that the worst block is slower on, each by the largest shape seen."""
        if not self._verdict.losses:
            return []
        worst = self._verdict.losses[0]
        lane = self._lanes.get(worst.profile)
        if lane is None:  # the reference was lost on a restart; what was found stands
            return []
        counts = lane.size_counts()
        buckets = [
            BucketImpact(
                worst.profile,
                self._shapes[worst.profile, d.size],
                counts[d.size],
                round(float(np.exp(d.ratio[worst.block])), 3),
            )
            for d in lane.differences()
            if d.size in worst.sizes
        ]
        return sorted(buckets, key=lambda bucket: -bucket.ratio)[:_LISTED_BUCKETS]

    def _summary(self) -> str:
        new, old = short(self._engine), short(self.reference.engine)
        name = f"{'build' if self._returned else 'new build'} {new}"
        back = ", which has served before," if self._returned else ""
        v = self._verdict
        if v.losses:
            worst = v.losses[0]
            what = "every block" if v.whole and len(v.losses) > 1 else worst.name
            more = f" ({worst.name} most)" if what == "every block" else ""
            if len(v.losses) > 1 and not more:
                more = f"; {len(v.losses) - 1} more slower"
            return (
                f"{name}{back} is slower than {old}: {what} takes {np.exp(worst.ratio):.2f}x its time "
                f"on {_range(worst.sizes)}{more}"
            )
        if self._equivalent:
            return f"{name}{back} is no slower than {old}, on {_range(v.equivalent)}"
        said = [f"block by block no slower on {_range(v.equivalent)}"] if v.equivalent else []
        said += [f"not yet known on {_range(v.unknown)}"] if v.unknown or not v.equivalent else []
        if v.equivalent and not v.level_known:
            said.append(f"all blocks together {np.expm1(v.level):+.0%}, which may be drift")
        return f"{name}{back} after {old}: {', '.join(said)}"

    def _evidence(self) -> str:
        compared = f"{self.executions} sampled executions compared shape by shape with {short(self.reference.engine)}"
        if not self._lanes:
            return f"no layers that could be matched with those of {short(self.reference.engine)}"
        if not self._verdict.losses:
            return compared
        worst = self._verdict.losses[0]
        return f"{compared}; {worst.name} drifted by {np.expm1(worst.margin):.0%} at most there"

    def state(self) -> State:
        """What must never be lost; the sums are in `heavy`."""
        return {
            "reference": self.reference.engine,
            "times_s": [self._onset_s, self._opened_s, self._updated_s],
            "returned": self._returned,
            "severity": self._severity,
            "verdict": msgspec.to_builtins(self._verdict),
            "counts": [self._judged, self._served],
        }

    def heavy(self) -> State:
        return {
            "tally": self._tally.state(),
            "shapes": [[*key, shape] for key, shape in self._shapes.items()],
            "lanes": {str(profile): lane.state() for profile, lane in self._lanes.items()},
        }

    @classmethod
    def restore(
        cls,
        instance: str,
        engine: str,
        reference: BuildReference,
        layers: dict[int, list[Layer]],
        state: State,
        heavy: State | None,
    ) -> BuildComparison:
        self = cls(instance, engine, reference, layers, state["returned"])
        self._onset_s, self._opened_s, self._updated_s = state["times_s"]
        self._severity = state["severity"]
        self._verdict = msgspec.convert(state["verdict"], Verdict)
        self._judged, self._served = state["counts"]
        if heavy is not None:
            self._tally = ImpactTally.restore(heavy["tally"])
            self._shapes = {(profile, size): shape for profile, size, shape in heavy["shapes"]}
            self._largest = {key: _elements(shape) for key, shape in self._shapes.items()}
            for profile, lane in self._lanes.items():
                if str(profile) in heavy["lanes"]:
                    lane.load(heavy["lanes"][str(profile)])
        return self


def short(engine: str) -> str:
    """A build as people name it: the first eight digits of its hash."""
    return engine.removeprefix("sha256:")[:8]


def _elements(shape: dict[str, list[int]]) -> int:
    point = point_of(shape)
    return point.batch * point.length


def _range(sizes: list[int]) -> str:
    """Octaves as people read them: `256..1023 elements (batch x length)`."""
    if not sizes:
        return "any input"
    parts: list[list[int]] = []
    for size in sorted(set(sizes)):
        if parts and size == parts[-1][1] + 1:
            parts[-1][1] = size
        else:
            parts.append([size, size])
    text = ", ".join(f"{2**low}..{2 ** (high + 1) - 1}" for low, high in parts)
    return f"inputs of {text} elements (batch x length)"
