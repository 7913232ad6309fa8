"""Scores the executions of one instance with one engine build."""

from __future__ import annotations

from collections import deque

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64, Bools, State
from layerwatch.detectors.baseline import SUPPORT, ShapeBaseline
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.causes import causes_of, is_seen_by_counters, pattern_of
from layerwatch.detectors.comparison import Compared, subtract_layers
from layerwatch.detectors.episode import OpenEpisode
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.gpu import GpuCounters
from layerwatch.detectors.lane import Lane
from layerwatch.detectors.layer_watch import JUDGED, LayerWatch
from layerwatch.detectors.level_notice import MATERIAL, LevelNotice, sentence, step_cause, stepped
from layerwatch.detectors.level_watch import LevelShift
from layerwatch.detectors.models import Models
from layerwatch.detectors.precision_watch import PrecisionWatch
from layerwatch.detectors.sampled import Sampled
from layerwatch.detectors.shapes import point_of
from layerwatch.detectors.slow.path import SlowPath
from layerwatch.detectors.window_watch import WindowWatch
from layerwatch.schemas.alerts import Cause
from layerwatch.schemas.engines import Layer, Manifest
from layerwatch.schemas.signals import Episode

_CHUNK = 32  # executions judged at once
_IDLE_S, _COLD_EXECUTIONS = 1.0, 5  # after a pause, so many executions are slow without anything being wrong
_REMEMBERED = 3  # messages whose layers are kept, for the executions between an onset and its finding
_CONTEXT_S = 0.6  # before the onset, looked at for the cause


class BuildScorer:
    """Baselines, channels and the open episode of one build on one instance."""

    def __init__(self, instance: str, manifest: Manifest) -> None:
        self._instance = instance
        self._manifest = manifest
        self._names: dict[int, list[Layer]] = {p.profile: p.layers for p in manifest.profiles}
        self._end_to_end = ShapeBaseline(1)
        self._lanes: dict[int, Lane] = {}
        self._executions = ExecutionWatch()
        self._layers = LayerWatch()
        self._windows = WindowWatch()
        self._precision = PrecisionWatch()
        self._gpu = GpuCounters()
        self.slow = SlowPath(instance, manifest.engine)
        self._last_s = 0.0
        self._cold = _COLD_EXECUTIONS
        self.healthy: list[tuple[F64 | None, dict[str, float]]] = []  # of the latest update: windows, levels
        self._recent: deque[Sampled] = deque(maxlen=_REMEMBERED)
        self._notice = LevelNotice(instance, manifest.engine)
        self._steps: list[
            tuple[LevelShift, list[Layer]]
        ] = []  # that requests feel, as the latest blocks show them
        self.episode: OpenEpisode | None = None

    @property
    def warming_up(self) -> bool:
        return self._executions.thresholds is None

    @property
    def learned(self) -> int:
        """Executions that the end-to-end baseline rests on."""
        return self._end_to_end.seen

    def update(self, batch: Executions, models: Models) -> list[Episode]:
        """Judge a batch; the open episode as it stands, and those that closed within the batch."""
        self._gpu.push(batch.counters)
        closed: list[Episode] = []
        self.healthy = []
        if len(batch):
            compared = self._compare(batch)
            self._recent.extend(compared.sampled)
            healthy = np.zeros(len(batch), bool)
            for a in range(0, len(batch), _CHUNK):
                b = min(a + _CHUNK, len(batch))
                healthy[a:b] = self._judge(batch, compared, a, b, models)
                self._close_if_over(float(batch.times_s[b - 1]), closed)
            self._learn(batch, compared, healthy)
            self._feed_slow(batch, compared, healthy, models)
        self._close_if_over(batch.clock_s, closed)
        closed += self.slow.episodes
        if self.episode is not None and self.episode.announced:
            closed.append(self.episode.snapshot(self._names))
        return closed + self._notice.episodes()

    def close(self, clock_s: float) -> list[Episode]:
        """End what is open: the instance has left, or runs another build now."""
        ended = self._notice.close(clock_s) + self.slow.close(clock_s) + self._end_episode(clock_s)
        self.slow = self.slow.resting()
        return ended

    def _end_episode(self, clock_s: float) -> list[Episode]:
        if self.episode is None:
            return []
        snapshot = self.episode.snapshot(self._names, closed_s=clock_s)
        self.episode = None
        self._clear()
        return [snapshot]

    def reboot(self) -> None:
        """Forget the old process's latest executions; the first of the new one are cold."""
        self.episode = None
        self._clear()
        self.slow.interrupt()
        self._notice.forget()
        self._recent.clear()
        self._last_s, self._cold = 0.0, _COLD_EXECUTIONS

    def _compare(self, batch: Executions) -> Compared:
        points = [point_of(shape) for shape in batch.shapes]
        skip = self._cold_executions(batch)
        n = len(batch)
        rows = np.zeros((n, 8))
        rows[:, e.TIME] = batch.times_s
        rows[:, e.END_TO_END_MS] = batch.end_to_end_ms
        rows[:, e.EXPECTED_MS] = batch.end_to_end_ms
        rows[:, e.SWITCHED] = batch.switched
        if self._end_to_end.fitted:
            expected, seen = self._end_to_end.expected(points)
            rows[:, e.EXPECTED_MS] = np.exp(expected[batch.shape, 0])
            rows[:, e.RATIO] = np.log(batch.end_to_end_ms) - expected[batch.shape, 0]
            rows[:, e.JUDGED] = (seen[batch.shape] >= SUPPORT) & ~skip
        rows[:, e.HOST] = rows[:, e.RATIO]
        sampled = []
        for block in batch.layers:
            lane = self._lanes.setdefault(block.profile, Lane(self._names[block.profile]))
            against = lane.compare(batch, block, points, skip)
            if against is not None and len(against.rows):
                sampled.append(against)
                subtract_layers(rows, against)
        at = np.concatenate([s.rows for s in sampled]) if sampled else np.empty(0, np.int64)
        features = np.concatenate([s.features for s in sampled]) if sampled else np.empty((0, 8))
        order = np.argsort(at, kind="stable")
        order = order[features[order, JUDGED] > 0]
        return Compared(points, rows, skip, sampled, features[order], at[order])

    def _cold_executions(self, batch: Executions) -> Bools:
        """The first executions of a process and those after a pause: slow by nature."""
        skip = np.zeros(len(batch), bool)
        starts = batch.times_s - batch.end_to_end_ms / 1e3
        before = np.concatenate(([self._last_s or starts[0]], batch.times_s[:-1]))
        for i in np.flatnonzero(starts - before > _IDLE_S):
            skip[i : i + _COLD_EXECUTIONS] = True
        skip[: self._cold] = True
        self._cold = max(0, self._cold - len(batch))
        self._last_s = float(batch.times_s[-1])
        return skip

    def _judge(self, batch: Executions, compared: Compared, a: int, b: int, models: Models) -> bool:
        """Judge executions a..b; True if they may be learnt from."""
        rows = compared.rows[a:b]
        inside = (compared.sampled_at >= a) & (compared.sampled_at < b)
        layers = compared.sampled_rows[inside]
        was_warming = self.warming_up
        all_sampled = batch.rate >= 1.0
        findings = self._executions.step(rows, all_sampled)
        findings += self._layers.step(layers, self._gpu.clock_drop(), all_sampled)
        if was_warming and not self.warming_up:
            self._gpu.learn()
        if b == len(batch):
            findings += self._levels(compared, float(rows[-1, e.TIME])) + self._clipping(batch)
        findings += self._windows.step(
            rows,
            self._executions.ring,
            self._layers.ring,
            models,
            suspicious=bool(findings),
            sampled_all=all_sampled,
        )
        hit = bool((rows[:, e.HIT] > 0).any() or (len(layers) and (layers[:, -1] > 0).any()))
        time_s = float(rows[-1, e.TIME])
        if self.episode is None and findings:
            self._open(findings, time_s, compared)
        if self.episode is None:
            self._executions.learn(rows)
            self._layers.learn(layers, all_sampled)
            if not self.warming_up:
                self.healthy.append((self._windows.healthy_window, self._windows.healthy_levels))
            return True
        self._follow(self.episode, batch, compared, a, b, findings, hit, time_s)
        return False

    def _levels(self, compared: Compared, time_s: float) -> list[Finding]:
        """Steps that requests feel; smaller ones become a notice."""
        judged = [
            self._lanes[sampled.profile].levels.add(sampled, self.episode is None)
            for sampled in compared.sampled
        ]
        # While another trouble is open, all levels are off: they say nothing of their own, and keep nothing open.
        if self.warming_up or (self.episode is not None and not self.episode.is_step):
            return []
        shifts = [
            (s, self._names[p]) for p, lane in self._lanes.items() if (s := lane.levels.shift) is not None
        ]
        if any(judged):
            self._notice.show(shifts, time_s)
        self._steps = [found for found in shifts if found[0].share >= MATERIAL]
        return [Finding(s.channel, s.score, s.threshold, s.onset_s) for s, _ in self._steps]

    def _clipping(self, batch: Executions) -> list[Finding]:
        if batch.precision is None or not len(batch.precision.rows):
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
        episode.note(findings, hit, b - a, time_s)
        if fresh:
            before = self._executions.ring.since(episode.onset_s)
            episode.tally.add(before[:, e.RATIO], before[:, e.END_TO_END_MS], before[:, e.EXPECTED_MS])
        else:
            rows = compared.rows[a:b]
            episode.tally.add(rows[:, e.RATIO], rows[:, e.END_TO_END_MS], rows[:, e.EXPECTED_MS])
        self._follow_shapes(episode, batch, compared, a, b)
        if not fresh and b == len(batch):
            for sampled in compared.sampled:
                episode.excesses.add(sampled, episode.opened_s)
        if fresh or episode.settling:
            episode.causes = self._causes(episode, time_s)
        if episode.is_step and self._steps:
            episode.step, episode.stepped = sentence(self._steps[0][0]), stepped(*self._steps[0])
        episode.announce(self._gpu.seen_since(episode.onset_s))

    def _causes(self, episode: OpenEpisode, time_s: float) -> list[Cause]:
        if "clipping" in episode.findings:
            watch = self._precision
            name = self._manifest.ranges[watch.worst].name
            text = f"{watch.clipped:.1%} of {name} is at or past its calibrated range, {watch.usual:.2%} at most before"
            return [Cause("quantization_range", 0.9, text), Cause("input_drift", 0.5, text)]
        causes = causes_of(
            pattern_of(
                self._executions.ring.since(episode.onset_s - _CONTEXT_S),
                self._layers.ring.since(episode.onset_s - _CONTEXT_S),
                frozenset(episode.findings),
                self._executions.thresholds.host if self._executions.thresholds else 1.0,
                self._layers.thresholds.share if self._layers.thresholds else 0.5,
                self._executions.drift,
            ),
            self._gpu.view(episode.onset_s, time_s),
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
            closed += self._end_episode(clock_s)

    def _clear(self) -> None:
        self._executions.clear()
        self._layers.clear()
        self._windows.clear()
        self._precision.clear()
        for lane in self._lanes.values():
            lane.levels.clear()

    def _learn(self, batch: Executions, compared: Compared, healthy: Bools) -> None:
        fit = healthy & ~compared.skip
        plain = fit & ~batch.switched
        if plain.any():
            log_ms = np.log(batch.end_to_end_ms[plain])[:, None]
            self._end_to_end.learn(compared.points, batch.shape[plain], log_ms)
        for block in batch.layers:
            self._lanes[block.profile].learn(batch, block, compared.points, fit[block.rows])

    def _feed_slow(self, batch: Executions, compared: Compared, healthy: Bools, models: Models) -> None:
        fit = healthy & ~compared.skip & ~batch.switched
        told = self.episode is not None or not healthy.all()
        self.slow.push(batch, compared.points, fit, told, models.lstm, self._gpu.clock_drop())

    def hot(self) -> State:
        """What must never be lost; a few KB."""
        return {
            "executions": self._executions.state(),
            "layers": self._layers.state(),
            "windows": self._windows.state(),
            "gpu": self._gpu.state(),
            "precision": self._precision.state(),
            "last_s": self._last_s,
            "cold": self._cold,
            "slow": self.slow.hot(),
            "notice": self._notice.state(),
            "levels": {str(profile): lane.levels.hot() for profile, lane in self._lanes.items()},
            "episode": None if self.episode is None else self.episode.state(),
        }

    def heavy(self) -> State:
        """The baselines."""
        return {
            "end_to_end": self._end_to_end.state(),
            "lanes": {str(profile): lane.state() for profile, lane in self._lanes.items()},
        }

    @classmethod
    def restore(
        cls, instance: str, manifest: Manifest, hot: State, heavy: State | None, slow: State | None
    ) -> BuildScorer:
        self = cls(instance, manifest)
        self._executions = ExecutionWatch.restore(hot["executions"])
        self._layers = LayerWatch.restore(hot["layers"])
        self._windows = WindowWatch.restore(hot["windows"])
        self._gpu = GpuCounters.restore(hot["gpu"])
        self._precision = PrecisionWatch.restore(hot["precision"])
        self.slow = SlowPath.restore(instance, manifest.engine, hot["slow"], slow)
        self._last_s, self._cold = hot["last_s"], hot["cold"]
        self._notice.load(hot["notice"])
        self.episode = None if hot["episode"] is None else OpenEpisode.restore(hot["episode"])
        if heavy is not None:
            self._end_to_end = ShapeBaseline.restore(heavy["end_to_end"])
            self._lanes = {
                int(profile): Lane.restore(state, self._names[int(profile)])
                for profile, state in heavy["lanes"].items()
            }
            for profile, state in hot["levels"].items():
                if int(profile) in self._lanes:
                    self._lanes[int(profile)].levels.load(state)
        return self
