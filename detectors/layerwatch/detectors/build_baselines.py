"""What one build usually takes on one instance: baselines of end-to-end times and layers, and the levels of its blocks."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64, Bools, Ints, State, some
from layerwatch.detectors.baseline import SUPPORT
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.build_reference import BuildReference, LaneReference, OwnLevels
from layerwatch.detectors.comparison import Compared, subtract_layers
from layerwatch.detectors.end_to_end import EndToEnd, Expected
from layerwatch.detectors.instance_offset import InstanceOffsets
from layerwatch.detectors.lane import Lane
from layerwatch.detectors.layer_watch import JUDGED
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.shapes import Point, point_of
from layerwatch.schemas.engines import Layer, Manifest

_IDLE_S, COLD_EXECUTIONS = 1.0, 5  # after a pause, so many executions are slow without anything being wrong


class BuildBaselines:
    """`names` are the layers of each optimization profile, `lanes` what is known of those that have run."""

    def __init__(self, manifest: Manifest) -> None:
        self._engine = manifest.engine
        self.names: dict[int, list[Layer]] = {p.profile: p.layers for p in manifest.profiles}
        self.lanes: dict[int, Lane] = {}
        self._end_to_end = EndToEnd()
        self._expected: Expected | None = None  # of the latest batch
        self._own: dict[int, OwnLevels] = {}
        self._offsets: InstanceOffsets | None = None  # while the level after a prior is learnt
        self._last_s = 0.0
        self._cold = COLD_EXECUTIONS

    @property
    def seen(self) -> int:
        """Executions that the end-to-end baseline rests on."""
        return self._end_to_end.seen

    @property
    def stand(self) -> bool:
        """Whether more samples would teach little."""
        return any(lane.levels.settled for lane in self.lanes.values()) and any(
            own.stands for own in self._own.values()
        )

    @property
    def doubtful(self) -> bool:
        """Whether levels may have stepped: what is learnt now would explain that away."""
        return any(lane.levels.doubtful for lane in self.lanes.values())

    @property
    def borrowed(self) -> bool:
        """Whether the level is still another instance's: levels of this one say nothing then."""
        return self._offsets is not None and self._offsets.young

    def describe(self, manifest: Manifest) -> None:
        """The build's manifest as it is known now: profiles that no runtime had run before may have come."""
        self.names |= {p.profile: p.layers for p in manifest.profiles if p.profile not in self.lanes}

    def reboot(self) -> None:
        """The first executions of a new process are cold."""
        self._last_s, self._cold = 0.0, COLD_EXECUTIONS

    def compare(self, batch: Executions) -> Compared:
        """Executions against what they should take."""
        points = [point_of(shape) for shape in batch.shapes]
        skip = self._cold_executions(batch)
        n = len(batch)
        rows = np.zeros((n, 8))
        rows[:, e.TIME] = batch.times_s
        rows[:, e.END_TO_END_MS] = batch.end_to_end_ms
        rows[:, e.EXPECTED_MS] = batch.end_to_end_ms
        rows[:, e.SWITCHED] = batch.switched
        self._expected = self._end_to_end.expected(batch, points)
        if self._expected is not None:
            expected_ms = self._expected.expected_ms
            rows[:, e.EXPECTED_MS] = expected_ms
            rows[:, e.RATIO] = np.log(batch.end_to_end_ms / expected_ms)
            rows[:, e.JUDGED] = (self._expected.seen >= SUPPORT) & ~skip
        rows[:, e.HOST] = rows[:, e.RATIO]
        sampled = []
        for block in batch.layers:
            lane = self.lanes.get(block.profile)
            if lane is None:
                lane = self.lanes[block.profile] = Lane(self.names[block.profile])
            against = lane.compare(batch, block, points, skip)
            if against is not None and len(against.rows):
                sampled.append(against)
                subtract_layers(rows, against)
        return Compared(points, rows, skip, sampled, *_in_order(sampled))

    def longer(self, batch: Executions, points: list[Point]) -> F64 | None:
        """See `EndToEnd.longer`."""
        return self._end_to_end.longer(batch, points)

    def _cold_executions(self, batch: Executions) -> Bools:
        """The first executions of a process and those after a pause: slow by nature."""
        skip = np.zeros(len(batch), bool)
        starts = batch.times_s - batch.end_to_end_ms / 1e3
        if self._last_s and starts[0] - self._last_s > _IDLE_S:
            skip[:COLD_EXECUTIONS] = True
        if len(batch) > 1:
            for i in (starts[1:] - batch.times_s[:-1] > _IDLE_S).nonzero()[0]:
                skip[i + 1 : i + 1 + COLD_EXECUTIONS] = True
        skip[: self._cold] = True
        self._cold = max(0, self._cold - len(batch))
        self._last_s = float(batch.times_s[-1])
        return skip

    def learn(self, batch: Executions, compared: Compared, healthy: Bools, *, calm: bool) -> bool:
        """Fold in the healthy executions ([n]); True once the level after a prior has become this instance's own.

        `calm`: no trouble is open.
        """
        fit = healthy & ~compared.skip
        settled = self._follow_instance(compared, fit, calm)
        plain = fit & ~batch.switched
        if some(plain):
            self._end_to_end.learn(batch, compared.points, plain, self._expected)
        for block in batch.layers:
            self.lanes[block.profile].learn(batch, block, compared.points, fit[block.rows])
        for sampled in compared.sampled:
            if sampled.profile not in self._own:
                self._own[sampled.profile] = OwnLevels(self.names[sampled.profile])
            self._own[sampled.profile].learn(
                sampled, compared.points, batch.shape[sampled.rows], fit[sampled.rows]
            )
        return settled

    def _follow_instance(self, compared: Compared, fit: Bools, calm: bool) -> bool:
        """After a prior was taken up: move the baselines to this instance's own level."""
        if self._offsets is None:
            return False
        lanes = {profile: lane.baseline for profile, lane in self.lanes.items()}
        self._offsets.follow(compared, fit, self._end_to_end, lanes)
        if not (self._offsets.settled and calm):
            return False
        self._offsets = None
        return True

    def adopt(self) -> None:
        """What was restored is another instance's. Raises ValueError where it has other layers than the manifest."""
        if any(lane.baseline.outputs != len(self.names[profile]) for profile, lane in self.lanes.items()):
            raise ValueError("other layers than its manifest")
        self._offsets = InstanceOffsets(list(self.lanes))

    def clear(self) -> None:
        """An episode has ended: no level that is being measured is a whole one."""
        for lane in self.lanes.values():
            lane.levels.clear()

    def reference(self) -> BuildReference:
        """This build as others are held against it; follows what is learnt."""
        lanes = {
            profile: LaneReference(self.names[profile], self.lanes[profile].baseline, own.blocks, own.levels)
            for profile, own in self._own.items()
        }
        return BuildReference(self._engine, self._end_to_end, lanes)

    def hot(self) -> State:
        """What changes with every message."""
        return {
            "last_s": self._last_s,
            "cold": self._cold,
            "levels": {str(profile): lane.levels.hot() for profile, lane in self.lanes.items()},
        }

    def heavy(self) -> State:
        """What was learnt."""
        return {
            "end_to_end": self._end_to_end.state(),
            "lanes": {str(profile): lane.state() for profile, lane in self.lanes.items()},
            "own": {str(profile): own.state() for profile, own in self._own.items()},
            "offsets": None if self._offsets is None else self._offsets.state(),
        }

    @classmethod
    def restore(cls, manifest: Manifest, hot: State, heavy: State | None) -> BuildBaselines:
        self = cls(manifest)
        self._last_s, self._cold = hot["last_s"], hot["cold"]
        if heavy is None:
            return self
        self._end_to_end = EndToEnd.restore(heavy["end_to_end"])
        self.lanes = {
            int(profile): Lane.restore(state, self.names[int(profile)])
            for profile, state in heavy["lanes"].items()
        }
        for profile, state in hot["levels"].items():
            if int(profile) in self.lanes:
                self.lanes[int(profile)].levels.load(state)
        self._own = {
            int(profile): OwnLevels.restore(self.names[int(profile)], state)
            for profile, state in heavy["own"].items()
        }
        offsets = heavy["offsets"]
        self._offsets = None if offsets is None else InstanceOffsets.restore(offsets)
        return self


def _in_order(sampled: list[Sampled]) -> tuple[F64, Ints]:
    """The judged features of all profiles, as the executions came, and which executions those are."""
    if len(sampled) == 1:
        judged = sampled[0].features[:, JUDGED] > 0
        return sampled[0].features[judged], sampled[0].rows[judged]
    at = np.concatenate([s.rows for s in sampled]) if sampled else np.empty(0, np.int64)
    features = np.concatenate([s.features for s in sampled]) if sampled else np.empty((0, 8))
    order = np.argsort(at, kind="stable")
    order = order[features[order, JUDGED] > 0]
    return features[order], at[order]
