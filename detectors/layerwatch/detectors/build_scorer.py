"""Scores the executions of one instance with one engine build."""

from __future__ import annotations

from collections import deque

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64, Bools, State, some
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.build_baselines import COLD_EXECUTIONS, BuildBaselines
from layerwatch.detectors.build_comparison import BuildComparison
from layerwatch.detectors.build_reference import BuildReference
from layerwatch.detectors.causes import causes_of, is_seen_by_counters, is_sure, pattern_of
from layerwatch.detectors.comparison import Compared
from layerwatch.detectors.episode import OpenEpisode
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.gpu import GpuCounters
from layerwatch.detectors.gpu_activity import GpuActivity
from layerwatch.detectors.layer_watch import LayerWatch
from layerwatch.detectors.level_notice import (
    LevelNotice,
    is_lasting,
    is_material,
    sentence,
    step_cause,
    stepped,
)
from layerwatch.detectors.level_shift import LevelShift
from layerwatch.detectors.models import Models
from layerwatch.detectors.precision_watch import PrecisionWatch
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.slow.path import SlowPath
from layerwatch.detectors.suspicion import Suspicion
from layerwatch.detectors.window_watch import WindowWatch
from layerwatch.schemas.alerts import Cause
from layerwatch.schemas.engines import Layer, Manifest
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.signals import Episode

_CHUNK = 32  # executions judged at once
_REMEMBERED = 3  # messages whose layers are kept, for the executions between an onset and its finding
_CONTEXT_S = 0.6  # before the onset, looked at for the cause
_LATEST_S = 2.0  # looked at where a trouble has become critical long after its onset


class BuildScorer:
    """Channels and the open episode of one build on one instance, over its baselines."""

    def __init__(self, instance: str, manifest: Manifest) -> None:
        self._instance = instance
        self._manifest = manifest
        self._baselines = BuildBaselines(manifest)
        self._executions = ExecutionWatch()
        self._layers = LayerWatch()
        self._windows = WindowWatch()
        self._precision = PrecisionWatch()
        self._gpu = GpuCounters()
        self._activity = GpuActivity()
        self._suspicion = Suspicion()
        self.slow = SlowPath(instance, manifest.engine)
        self.healthy: list[tuple[F64 | None, dict[str, float]]] = []  # of the latest update: windows, levels
        self._recent: deque[Sampled] = deque(maxlen=_REMEMBERED)
        self._notice = LevelNotice(instance, manifest.engine)
        self._steps: list[
            tuple[LevelShift, list[Layer]]
        ] = []  # that requests feel, as the latest blocks show them
        self.episode: OpenEpisode | None = None
        self.comparison: BuildComparison | None = None  # with the build that was served before

    @property
    def warming_up(self) -> bool:
        return self._executions.thresholds is None

    @property
    def settled(self) -> bool:
        """Whether all baselines stand, so that more samples would teach little."""
        return not self.warming_up and self._layers.settled and self._baselines.stand

    @property
    def suspected(self) -> list[str]:
        """The channels that make it suspect, as of the latest message: reason to sample more."""
        return self._suspicion.channels

    @property
    def learned(self) -> int:
        """Executions that the end-to-end baseline rests on."""
        return self._baselines.seen

    def describe(self, manifest: Manifest) -> None:
        """The build's manifest as it is known now: profiles that no runtime had run before may have come."""
        if manifest is not self._manifest:
            self._manifest = manifest
            self._baselines.describe(manifest)

    def update(self, batch: Executions, models: Models) -> list[Episode]:
        """Judge a batch; the open episode as it stands, and those that closed within the batch."""
        self._gpu.push(batch.counters)
        if len(batch.counters):
            nothing_else = not set(self._suspicion.channels) - {"gpu_activity"}
            self._activity.update(self._gpu.latest(), self.warming_up, nothing_else)
        closed: list[Episode] = []
        self.healthy = []
        if len(batch):
            compared = self._baselines.compare(batch)
            self._recent.extend(compared.sampled)
            healthy = np.zeros(len(batch), bool)
            for a in range(0, len(batch), _CHUNK):
                b = min(a + _CHUNK, len(batch))
                healthy[a:b] = self._judge(batch, compared, a, b, models, closed)
                self._close_if_over(float(batch.times_s[b - 1]), closed)
            doubtful = self._baselines.doubtful or self._executions.doubtful or self._layers.doubtful
            learnt_from = healthy & (not doubtful)
            if self._baselines.learn(batch, compared, learnt_from, calm=self.episode is None):
                self._gpu.learn()  # other instances' usual counters were a start and no more
            self._feed_slow(batch, compared, healthy, models)
            self._suspect(batch, compared)
            if self.comparison is not None:
                self.comparison.add(batch, compared.points, healthy & ~compared.skip)
        self._close_if_over(batch.clock_s, closed)
        closed += self._compared(batch.clock_s)
        closed += self.slow.episodes
        if self.episode is not None and self.episode.announced:
            closed.append(self.episode.snapshot(self._baselines.names))
        return closed + self._notice.episodes()

    def close(self, clock_s: float) -> list[Episode]:
        """End what is open: the instance has left, or runs another build now."""
        begun = self.comparison is not None and self.comparison.begun
        ended = [self.comparison.episode(closed_s=clock_s)] if self.comparison is not None and begun else []
        self.comparison = None
        ended += self.slow.close(clock_s)
        self.slow = self.slow.resting()
        return ended + self._notice.close(clock_s) + self._close_episode(clock_s)

    def _close_episode(self, clock_s: float) -> list[Episode]:
        if self.episode is None:
            return []
        episode, self.episode = self.episode, None
        self._clear()
        return self._ended(episode, clock_s)

    def _ended(self, episode: OpenEpisode, clock_s: float) -> list[Episode]:
        told = episode.announced or not episode.slight
        return [episode.snapshot(self._baselines.names, closed_s=clock_s)] if told else []

    def compare_with(self, reference: BuildReference, *, returned: bool) -> None:
        """Hold the executions to come against another build; `returned`: this one has served here before."""
        self.comparison = BuildComparison(
            self._instance, self._manifest.engine, reference, self._baselines.names, returned
        )

    def resume_comparison(self, reference: BuildReference, state: State, heavy: State | None) -> None:
        self.comparison = BuildComparison.restore(
            self._instance, self._manifest.engine, reference, self._baselines.names, state, heavy
        )

    def reboot(self) -> None:
        """Forget the old process's latest executions; the first of the new one are cold."""
        self.episode = None
        self._clear()
        self.slow.interrupt()
        self._notice.forget()
        self._recent.clear()
        self._baselines.reboot()

    def _judge(
        self, batch: Executions, compared: Compared, a: int, b: int, models: Models, closed: list[Episode]
    ) -> bool:
        """Judge executions a..b; True if they may be learnt from. An episode that they end goes to `closed`."""
        rows = compared.rows[a:b]
        layers = compared.sampled_rows
        if b - a < len(batch):
            layers = layers[(compared.sampled_at >= a) & (compared.sampled_at < b)]
        was_warming = self.warming_up
        all_sampled = batch.rate >= 1.0
        findings = self._executions.step(rows, all_sampled, self._activity.unusual)
        findings += self._layers.step(
            layers,
            self._gpu.clock_drop(),
            all_sampled,
            self._activity.nobody_else,
            self._activity.unusual,
        )
        if was_warming and not self.warming_up:
            self._gpu.learn()
        if b == len(batch):
            findings += self._levels(compared, float(rows[-1, e.TIME]), models) + self._clipping(
                batch, models
            )
        findings = _heard(findings, models)
        windows = self._windows.step(
            rows,
            self._executions.ring,
            self._layers.ring,
            models.forest_of(self._manifest.engine),
            models.lstm,
            suspicious=bool(findings),
            sampled_all=all_sampled,
        )
        findings += _heard(windows, models)
        time_s = float(rows[-1, e.TIME])
        if self.episode is not None and self.episode.is_another(findings, time_s):
            closed += self._ended(self.episode, time_s)
            self.episode = None
        if self.episode is None and findings:
            self._open(findings, time_s, compared)
        if self.episode is None:
            if not self.warming_up and not self._gpu.knows_usual:
                self._gpu.learn()  # a fast runtime was learnt before so many counters had come
            self._executions.learn(rows)
            self._layers.learn(layers, all_sampled)
            if not self.warming_up:
                self.healthy.append((self._windows.healthy_window, self._windows.healthy_levels))
            return True
        found = self.episode.findings
        hit = (
            self._executions.crowded(rows)
            or self._executions.lingers(found, all_sampled)
            or self._layers.crowded(layers, all_sampled)
            or self._layers.lingers(
                found, layers, self._gpu.clock_drop(), all_sampled, self._activity.unusual
            )
        )
        self._follow(self.episode, batch, compared, a, b, findings, hit, time_s)
        return False

    def _levels(self, compared: Compared, time_s: float, models: Models) -> list[Finding]:
        """Steps that requests feel; smaller ones become a notice."""
        if self._baselines.borrowed:
            return []
        judged = [
            self._baselines.lanes[sampled.profile].levels.add(sampled, self.episode is None)
            for sampled in compared.sampled
        ]
        # While another trouble is open, all levels are off: they say nothing of their own, and keep nothing open.
        if self.warming_up or (self.episode is not None and not self.episode.shows_steps):
            return []
        shifts = [
            (s, self._baselines.names[p])
            for p, lane in self._baselines.lanes.items()
            if (s := lane.levels.shift) is not None and s.channel not in models.silenced
        ]
        if any(judged):
            self._notice.show(shifts, time_s)
        self._steps = [found for found in shifts if is_material(found[0]) and is_lasting(found[0], time_s)]
        return [Finding(s.channel, s.score, s.threshold, s.onset_s) for s, _ in self._steps]

    def _suspect(self, batch: Executions, compared: Compared) -> None:
        raised = ["episode"] if self.episode is not None else []
        raised += self._windows.suspected
        if any(lane.levels.suspected for lane in self._baselines.lanes.values()):
            raised.append("levels")
        if self.slow.suspected:
            raised.append("slow_path")
        if self._activity.unusual:
            raised.append("gpu_activity")
        self._suspicion.update(compared.rows, compared.sampled_rows, self._executions, self._layers, raised)

    def _clipping(self, batch: Executions, models: Models) -> list[Finding]:
        if batch.precision is None or not len(batch.precision.rows) or "clipping" in models.silenced:
            return []
        return self._precision.step(batch.times_s[batch.precision.rows], batch.precision)

    def _open(self, findings: list[Finding], time_s: float, compared: Compared) -> None:
        self.episode = OpenEpisode.open(self._instance, self._manifest.engine, findings, time_s)
        for sampled in self._recent:
            self.episode.excesses.add(sampled, self.episode.onset_s)

    def _follow(
        self,
        episode: OpenEpisode,
        batch: Executions,
        compared: Compared,
        a: int,
        b: int,
        findings: list[Finding],
        hit: bool,
        time_s: float,
    ) -> None:
        fresh = not episode.findings
        known = int(((compared.sampled_at >= a) & (compared.sampled_at < b)).sum())
        episode.note(findings, hit, b - a, known, time_s)
        rows = self._executions.ring.since(episode.onset_s) if fresh else compared.rows[a:b]
        episode.tally.add(rows[:, e.RATIO], rows[:, e.END_TO_END_MS], rows[:, e.EXPECTED_MS])
        episode.slow += int(np.count_nonzero(rows[:, e.HIT]))
        episode.longest = max(episode.longest, float(rows[:, e.RATIO].max()))
        self._follow_shapes(episode, batch, compared, a, b)
        if not fresh and b == len(batch):
            for sampled in compared.sampled:
                episode.excesses.add(sampled, episode.opened_s)
        worse = b == len(batch) and episode.worsen()
        if fresh or episode.settling:
            episode.causes = self._causes(episode, episode.onset_s, time_s)
        elif worse and self._executions.slow_now:  # another trouble may have come to this one
            episode.causes = self._causes(episode, max(episode.onset_s, time_s - _LATEST_S), time_s)
        if episode.is_step and self._steps:
            episode.step, episode.stepped = sentence(self._steps[0][0]), stepped(*self._steps[0])
        sure = bool(episode.causes) and is_sure(episode.causes[0])
        episode.announce(self._gpu.seen_since(episode.begun_s), sure=sure)

    def _causes(self, episode: OpenEpisode, since_s: float, time_s: float) -> list[Cause]:
        if "clipping" in episode.findings:
            watch = self._precision
            name = self._manifest.ranges[watch.worst].name
            text = f"{watch.clipped:.1%} of {name} is at or past its calibrated range, {watch.usual:.2%} at most before"
            return [Cause("quantization_range", 0.9, text), Cause("input_drift", 0.5, text)]
        if episode.is_spikes:
            share = episode.findings["spikes"].score
            return [Cause("unknown", 0.3, f"{share:.2%} of the executions take four times as long or more")]
        causes = causes_of(
            pattern_of(
                self._executions.ring.since(since_s - _CONTEXT_S),
                self._layers.ring.since(since_s - _CONTEXT_S),
                frozenset(episode.findings),
                self._executions.thresholds.host if self._executions.thresholds else 1.0,
                self._layers.thresholds.share if self._layers.thresholds else 0.5,
                self._executions.drift,
            ),
            self._gpu.view(since_s, time_s),
            self._activity.unusual,
            self._activity.nobody_else,
        )
        if self._steps and episode.is_step and not is_seen_by_counters(causes[0]):
            return [step_cause(self._steps[0][0])]
        return causes

    def _follow_shapes(
        self, episode: OpenEpisode, batch: Executions, compared: Compared, a: int, b: int
    ) -> None:
        keys = batch.profile[a:b] * len(batch.shapes) + batch.shape[a:b]
        for key in np.unique(keys):
            profile, shape = divmod(int(key), len(batch.shapes))
            ratio = compared.rows[a:b][keys == key, e.RATIO]
            episode.tally.add_shape(profile, batch.shapes[shape], ratio)

    def _close_if_over(self, clock_s: float, closed: list[Episode]) -> None:
        if self.episode is not None and self.episode.over(clock_s):
            closed += self._close_episode(clock_s)

    def _compared(self, clock_s: float) -> list[Episode]:
        """What is known of this build against the one before; its end once nothing more is to be said."""
        if self.comparison is None or not self.comparison.begun:
            return []
        if not self.comparison.over:
            return [self.comparison.episode()]
        ended = self.comparison.episode(closed_s=clock_s)
        self.comparison = None
        return [ended]

    def reference(self) -> BuildReference:
        """This build as others are held against it; follows what is learnt."""
        return self._baselines.reference()

    def _clear(self) -> None:
        self._executions.clear()
        self._layers.clear()
        self._windows.clear()
        self._precision.clear()
        self._suspicion.clear()
        self._baselines.clear()

    def prior(self) -> State:
        """What another instance of this build can start from: nothing that concerns this one's own executions."""
        hot = self.hot() | {"episode": None, "comparison": None, "last_s": 0.0, "cold": COLD_EXECUTIONS}
        hot["notice"] = LevelNotice(self._instance, self._manifest.engine).state()
        start = BuildScorer.restore("", self._manifest, hot, self.heavy() | {"offsets": None}, None)
        start._clear()
        start.slow.interrupt()
        start._gpu.clear()
        return {"hot": start.hot(), "heavy": start.heavy()}

    @classmethod
    def from_prior(cls, instance: str, manifest: Manifest, prior: State) -> BuildScorer:
        """From what `prior` gave on another instance; scores at once. Raises InvalidRecord (bad_prior)."""
        try:
            self = cls.restore(instance, manifest, prior["hot"], prior["heavy"], None)
            self._baselines.adopt()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRecord(
                "bad_prior", f"the prior of {manifest.engine} cannot be used: {error}"
            ) from error
        return self

    def _feed_slow(self, batch: Executions, compared: Compared, healthy: Bools, models: Models) -> None:
        fit = healthy & ~compared.skip & ~batch.switched
        told = self.episode is not None or some(~healthy)
        longer = self._baselines.longer(batch, compared.points)
        self.slow.push(batch, compared.points, fit, longer, told, models.slow_lstm, self._gpu.clock_drop())

    def hot(self) -> State:
        """What must never be lost; a few KB."""
        return {
            "executions": self._executions.state(),
            "layers": self._layers.state(),
            "windows": self._windows.state(),
            "gpu": self._gpu.state(),
            "activity": self._activity.state(),
            "suspicion": self._suspicion.state(),
            "precision": self._precision.state(),
            "slow": self.slow.hot(),
            "notice": self._notice.state(),
            **self._baselines.hot(),
            "episode": None if self.episode is None else self.episode.state(),
            "comparison": None if self.comparison is None else self.comparison.state(),
        }

    def heavy(self) -> State:
        """The baselines."""
        comparison = None if self.comparison is None else self.comparison.heavy()
        return {**self._baselines.heavy(), "comparison": comparison}

    @classmethod
    def restore(
        cls, instance: str, manifest: Manifest, hot: State, heavy: State | None, slow: State | None
    ) -> BuildScorer:
        self = cls(instance, manifest)
        self._executions = ExecutionWatch.restore(hot["executions"])
        self._layers = LayerWatch.restore(hot["layers"])
        self._windows = WindowWatch.restore(hot["windows"])
        self._gpu = GpuCounters.restore(hot["gpu"])
        self._activity = GpuActivity.restore(hot["activity"])
        self._suspicion = Suspicion.restore(hot["suspicion"])
        self._precision = PrecisionWatch.restore(hot["precision"])
        self.slow = SlowPath.restore(instance, manifest.engine, hot["slow"], slow)
        self._baselines = BuildBaselines.restore(manifest, hot, heavy)
        self._notice.load(hot["notice"])
        self.episode = None if hot["episode"] is None else OpenEpisode.restore(hot["episode"])
        return self


def _heard(findings: list[Finding], models: Models) -> list[Finding]:
    return [finding for finding in findings if finding.channel not in models.silenced]
