"""Watches the end-to-end times of all executions: what happens between the layers shows only here."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import astuple, dataclass

import numpy as np

from layerwatch.detectors import learned
from layerwatch.detectors.arrays import F64, Bools, State, clipped, median, some
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.rare_scan import RareScan
from layerwatch.detectors.ring import Ring
from layerwatch.detectors.scan import Scan, ScanResult, hits_needed
from layerwatch.detectors.switch_watch import SwitchWatch

#: Columns of the ring.
TIME, HOST, RATIO, JUDGED, SWITCHED, END_TO_END_MS, EXPECTED_MS, HIT = range(8)

#: Judged executions that thresholds are learnt from.
_WARM_UP = 400
_KEPT = 192  # afterwards: the windows below, and the context of a cause
_LEVEL_WINDOW = 50
#: A level that is raised by less is believed when it has lasted for both.
_RAISED_EXECUTIONS, _RAISED_S = 150, 1.5
#: While counters show somebody else on the GPU, a level of so many executions that is raised by so much less (log units).
#: A super-resolution beside a neighbour's copies is at 0.25; with nothing wrong nineteen recordings reach 0.03 to 0.29, so it
#: is the counters that keep it silent then.
_BESIDE_WINDOW, _BESIDE = 150, 0.20
_LOCAL_WINDOW = 40
_LOCAL_CONTRAST = 0.60  # log units over the latest 40 executions
_NEWEST, _TWICE = 8, 0.69  # executions, log units
_DRIFT_EXECUTIONS = 2000
_LAYERS_UNKNOWN = (
    0.1  # log units by which layers alone may vary: where they are known, that is no part of HOST
)
_SLOW = 0.4  # log units above the threshold of the host part: whatever the layers are
_SPIKE = 1.4  # log units: four times as long as its shape should take
_RATE_FLOOR = 5e-4  # healthy spikes of the host part come in clusters
#: What is open goes on until it is so far below the thresholds, which are 0.2 and more above what is healthy (log units):
#: a trouble about as large as a threshold would open and close all the time.
_LINGERING, _LEVEL_LINGERING = 0.2, 0.06
#: Executions that are so slow must come more often than by chance once in a hundred windows: some hosts have many.
_LEAST_LINGERING, _LINGERING_ALPHA = 2, 1e-2


@dataclass(frozen=True, slots=True)
class Thresholds:
    host: float
    level: float
    raised: float


class ExecutionWatch:
    """Channels `host_tail`, `end_to_end_tail`, `host_level`, `spikes` and `profile_switch`; needs `_WARM_UP` executions first."""

    def __init__(self) -> None:
        self.thresholds: Thresholds | None = None
        self.ring = Ring(2 * _WARM_UP, 8)
        self.drift = 0.0  # slow level of the host part, followed while healthy
        self._host = Scan(_RATE_FLOOR)
        self._end_to_end = Scan(_RATE_FLOOR)
        self._spikes = RareScan()
        self._switches = SwitchWatch()
        self._raised_s: float | None = None  # since when the level has been raised
        self._raised = 0  # executions since then
        self._beside = 0.0  # by how much less a raised level is believed just now
        self._near = 0.0, 0.0  # shares of healthy executions that `lingers` counts: by HOST, by RATIO

    @property
    def doubtful(self) -> bool:
        """Whether the level is raised and it is not known yet whether that lasts: learning it would explain it away."""
        return self._raised_s is not None

    @property
    def slow_now(self) -> bool:
        """Whether the newest executions, most of them, take twice as long as their shapes explain."""
        return median(self.ring.last(_NEWEST)[:, RATIO]) > _TWICE

    def step(self, rows: F64, sampled_all: bool, somebody_else: bool = False) -> list[Finding]:
        """Judge executions, rows of the ring without HIT (filled in here). [] while warming up.

        `somebody_else`: counters show work on the GPU beyond what this instance has ever shown.
        """
        self._beside = _BESIDE if somebody_else else 0.0
        if self.thresholds is None:
            self.ring.push(rows)
            self._warm_up()
            return []
        hits = slow = spikes = np.zeros(len(rows), bool)
        if self._some_near(rows):  # seldom: what follows is beyond that
            level, judged = max(self.drift, 0.0), rows[:, JUDGED] > 0
            host = rows[:, HOST] - level
            beyond = self.thresholds.host + (0.0 if sampled_all else _LAYERS_UNKNOWN)
            hits = judged & ((host > beyond) | self._locally(rows, host, sampled_all))
            slow = judged & (rows[:, RATIO] - level > self.thresholds.host + _SLOW)
            spikes = judged & (rows[:, RATIO] - level > _SPIKE)
        rows[:, HIT] = hits | slow
        self.ring.push(rows)
        findings = [
            _scan_finding("host_tail", self._host.push(rows[:, TIME], hits)),
            _scan_finding("end_to_end_tail", self._end_to_end.push(rows[:, TIME], slow)),
            _scan_finding("spikes", self._spikes.push(rows[:, TIME], spikes)),
            self._level(len(rows), sampled_all),
            self._switched(rows),
        ]
        return [finding for finding in findings if finding is not None]

    def crowded(self, rows: F64) -> bool:
        """Whether some, which `step` has judged, are far out, or are slow and others are closer to them than by chance."""
        slow = rows[rows[:, HIT] > 0]
        if not len(slow):
            return False
        far_out = some(slow[:, RATIO] - max(self.drift, 0.0) > _SPIKE)
        return far_out or self._host.crowded() or self._end_to_end.crowded()

    def lingers(self, channels: Container[str], sampled_all: bool) -> bool:
        """Whether the latest executions still show what these channels found, if a little less of it."""
        if self.thresholds is None:
            return False
        near = self._near_hits(self.ring.last(_LOCAL_WINDOW), 0.0 if sampled_all else _LAYERS_UNKNOWN)
        for channel, hits, share in zip(("host_tail", "end_to_end_tail"), near, self._near, strict=True):
            if channel in channels and hits >= _lingering(share):
                return True
        latest = self.ring.last(_KEPT)
        switched = "profile_switch" in channels and some(latest[:, SWITCHED] > 0)
        if switched and self._switches.lingers(self._others()):
            return True
        return (
            "host_level" in channels
            and self._level_now(_BESIDE_WINDOW if self._beside else _LEVEL_WINDOW)
            > self._raised_beyond(sampled_all) - _LEVEL_LINGERING
        )

    def _near_hits(self, rows: F64, unknown: float) -> tuple[int, int]:
        """How many of them have a host part, and how many a whole, so long that a trouble that is open goes on."""
        if not self._some_near(rows):
            return 0, 0
        beyond, judged = self._near_from(), rows[rows[:, JUDGED] > 0]
        host, whole = judged[:, HOST] > beyond + unknown, judged[:, RATIO] > beyond + _SLOW
        return int(np.count_nonzero(host)), int(np.count_nonzero(whole))

    def _some_near(self, rows: F64) -> bool:
        """Whether any could be near: a quick look, for most messages the only one."""
        return len(rows) > 0 and float(rows[:, HOST : RATIO + 1].max()) > self._near_from()

    def _near_from(self) -> float:
        assert self.thresholds is not None
        return self.thresholds.host - _LINGERING + max(self.drift, 0.0)

    def learn(self, rows: F64) -> None:
        """Fold in executions that were judged and found healthy."""
        if self.thresholds is None or not len(rows):
            return
        fresh = len(rows) / _DRIFT_EXECUTIONS
        host, whole = self._near_hits(rows, 0.0)
        self._near = (
            self._near[0] * (1 - fresh) + host / _DRIFT_EXECUTIONS,
            self._near[1] * (1 - fresh) + whole / _DRIFT_EXECUTIONS,
        )
        hits = rows[:, HIT] > 0
        self._host.learn(hits)
        self._end_to_end.learn(hits)
        self._spikes.learn()
        step = np.add.reduce(clipped(rows[:, HOST] - self.drift, 0.2)) / _DRIFT_EXECUTIONS
        self.drift += float(step)

    def clear(self) -> None:
        """Forget the latest executions: an episode has ended."""
        if self.thresholds is not None:
            self.ring.clear()
        self._host.clear()
        self._end_to_end.clear()
        self._spikes.clear()
        self._switches.clear()
        self._raised_s, self._raised = None, 0

    def _warm_up(self) -> None:
        judged = self.ring.last(len(self.ring))
        host = judged[judged[:, JUDGED] > 0, HOST]
        if len(host) < _WARM_UP:
            return
        self.thresholds = Thresholds(learned.host_tail(host), *learned.host_levels(host))
        self._switches.warm_up(judged[(judged[:, JUDGED] > 0) & (judged[:, SWITCHED] > 0), RATIO])
        self.ring.shrink(_KEPT)
        hits = host > self.thresholds.host
        near = self._near_hits(judged, 0.0)
        self._near = near[0] / len(host), near[1] / len(host)
        self._host.warm_up(hits)
        self._end_to_end.warm_up(hits)

    def _locally(self, rows: F64, host: F64, sampled_all: bool) -> Bools:
        """Slow against its neighbours: sharper than the level, but only where every host part is known exactly."""
        recent = self.ring.last(_LOCAL_WINDOW)
        if not sampled_all or len(recent) <= 10 or self.thresholds is None:
            return np.zeros(len(rows), bool)
        slow: Bools = host > self.thresholds.host - 0.10
        if some(slow):
            slow &= rows[:, HOST] - median(recent[:, HOST]) > _LOCAL_CONTRAST
        return slow

    def _level(self, executions: int, sampled_all: bool) -> Finding | None:
        assert self.thresholds is not None
        level, latest = self._level_now(_LEVEL_WINDOW), self.ring.last(_LEVEL_WINDOW)
        raised, lasting = self._raised_beyond(sampled_all), level
        if self._beside and level <= self.thresholds.level:
            lasting = self._level_now(_BESIDE_WINDOW)
        if lasting <= raised:
            self._raised_s, self._raised = None, 0
            return None
        now_s, onset_s = float(latest[-1, TIME]), float(latest[len(latest) // 2, TIME])
        self._raised_s = onset_s if self._raised_s is None else self._raised_s
        self._raised += executions
        if level > self.thresholds.level:
            return Finding("host_level", level, self.thresholds.level, onset_s)
        if self._raised < _RAISED_EXECUTIONS or now_s - self._raised_s < _RAISED_S:
            return None
        return Finding("host_level", lasting, raised, self._raised_s)

    def _raised_beyond(self, sampled_all: bool) -> float:
        assert self.thresholds is not None
        beyond = self.thresholds.raised - self._beside + (0.0 if sampled_all else _LAYERS_UNKNOWN)
        return min(beyond, self.thresholds.level)

    def _level_now(self, window: int) -> float:
        """Of the host part, over the latest executions; 0 while there are too few."""
        rows = self.ring.last(window)
        known = rows[rows[:, JUDGED] > 0, HOST]
        if len(rows) < window or len(known) < window // 2:
            return 0.0
        return median(known) - max(self.drift, 0.0)

    def _switched(self, rows: F64) -> Finding | None:
        new = rows[rows[:, SWITCHED] > 0]
        if not len(new):
            return None
        ratios = new[:, RATIO] - max(self.drift, 0.0)
        return self._switches.step(new[:, TIME], ratios, new[:, JUDGED] > 0, self._others())

    def _others(self) -> F64:
        """Ratios of the latest executions on known shapes that switched no profile."""
        latest = self.ring.last(_KEPT)
        ratios: F64 = latest[(latest[:, SWITCHED] == 0) & (latest[:, JUDGED] > 0), RATIO]
        return ratios - max(self.drift, 0.0)

    def state(self) -> State:
        return {
            "thresholds": None if self.thresholds is None else list(astuple(self.thresholds)),
            "ring": self.ring.state(),
            "drift": self.drift,
            "host": self._host.state(),
            "end_to_end": self._end_to_end.state(),
            "spikes": self._spikes.state(),
            "switches": self._switches.state(),
            "raised": [self._raised_s, self._raised],
            "near": list(self._near),
        }

    @classmethod
    def restore(cls, state: State) -> ExecutionWatch:
        self = cls()
        self.thresholds = None if state["thresholds"] is None else Thresholds(*state["thresholds"])
        self.ring, self.drift = Ring.restore(state["ring"]), state["drift"]
        self._host.load(state["host"])
        self._end_to_end.load(state["end_to_end"])
        self._spikes = RareScan.restore(state["spikes"])
        self._switches = SwitchWatch.restore(state["switches"])
        self._raised_s, self._raised = state["raised"]
        near_host, near_whole = state["near"]
        self._near = near_host, near_whole
        return self


def _lingering(share: float) -> int:
    """Executions of the latest that are too many for this share of them."""
    rate = float(f"{min(max(share, _RATE_FLOOR), 0.5):.2g}")
    return hits_needed(rate, _LOCAL_WINDOW, _LEAST_LINGERING, _LINGERING_ALPHA)


def _scan_finding(channel: str, result: ScanResult | None) -> Finding | None:
    if result is None:
        return None
    return Finding(
        channel, result.hits / result.window, result.needed / result.window, result.onset_s, result.p_value
    )
