"""Watches the layers of sampled executions, all kernels together: slices, a common slowdown, the sum."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import astuple, dataclass

import numpy as np

from layerwatch.detectors import learned
from layerwatch.detectors.arrays import F64, State, clipped, median, some
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.lots import Lots
from layerwatch.detectors.ring import Ring
from layerwatch.detectors.scan import MAX_AGE_S, SPARSE_AGE_S, Scan

#: Columns of the ring. SLICE: largest excess of one layer over the expected sum; COMMON: median log-ratio of layers;
#: TOTAL: log-ratio of the sum; EXCESS: summed positive excess over the expected sum; SPREAD: share of the other layers
#: that are slower by a third and 5 us where one is: one of three alone is no spread.
TIME, SLICE, COMMON, TOTAL, EXCESS, SPREAD, JUDGED, HIT = range(8)

#: Healthy sampled executions that thresholds are learnt from: first ones, where few are sampled, and final ones.
_FIRST, _WARM_UP = 60, 300
_KEPT = 192  # the windows below, and the context of a cause
#: Channels of levels: what they look at, over so many of the latest sampled executions.
_WINDOWS = {"layers_common": (COMMON, 20), "layers_sum": (TOTAL, 50), "layers_spread": (SPREAD, 20)}
_FEW = 1.3  # times the threshold, for medians of so few
#: All layers slower alike, by less than twice the threshold, must last: the kernels of a host that slept a little longer between
#: two requests are up to a quarter slower for 0.7 s (source: healthy phases of a detector of 65 layers).
_LASTING_S, _BEYOND_DOUBT = 1.0, 2.0
_SPARSE = 0.4  # where fewer executions are sampled, windows are this part as long
_DRIFT_EXECUTIONS = 2000
#: Of the recordings' 35 524 healthy executions one has a slice of a quarter, and none one of three eighths.
_SLICE_RATE, _PRIOR_EXECUTIONS = 1e-4, 5000
_LARGE_RATE, _LARGE_PRIOR_EXECUTIONS = 3e-5, 17_000
_LARGE = 1.5  # times a slice that is a hit: where few are sampled, two such are enough, if they lie apart
_LEAST_LARGE, _APART_S = 2, 1.0
#: Times as many where nobody else is on the GPU: a host that stalls between two launches shows as a slow layer, too, and
#: three of fifty do so on a busy host with nothing wrong (a MobileNet whose host takes four times as long as its layers).
_UNEXPLAINED = 2
#: Share of the layers that are slower by a third and 5 us, median of 20 executions: with nothing wrong it is below 0.05 in 95
#: of 100; while the counters show work that the instance never did, it is at 0.094 at the most, and at 0.126 over eight of
#: them (two recordings, played for 48 minutes each; PCIe traffic: 0.12 to 0.5).
_SPREAD = 0.11
#: What is open goes on until it is below this part of the thresholds: a trouble about as large as one would open and close
#: all the time.
_LINGERING = 0.75
#: Slices only where another one lies among so many of the latest: alone, one in some hundred is seen with nothing wrong.
_SLICES_AMONG = 64


@dataclass(frozen=True, slots=True)
class Thresholds:
    share: float
    common: float
    total: float


class LayerWatch:
    """Channels `layer_slice`, `layers_common`, `layers_sum` and `layers_spread`; needs `_WARM_UP` sampled executions first, or `_FIRST`."""

    def __init__(self) -> None:
        self.thresholds: Thresholds | None = None
        self.ring = Ring(_KEPT, 8)
        self._learning = Ring(
            _WARM_UP, 3
        )  # SLICE, COMMON and TOTAL of the lot of healthy ones that is being gathered
        self._learnt = Lots()
        self._slices = Scan(_SLICE_RATE, _PRIOR_EXECUTIONS, trimmed=True)
        self._large = Scan(_LARGE_RATE, _LARGE_PRIOR_EXECUTIONS, _LEAST_LARGE, _APART_S, trimmed=True)
        self._common_drift = 0.0
        self._total_drift = 0.0
        self._common_s: float | None = None  # since when all layers have been slower

    @property
    def settled(self) -> bool:
        """Whether the final thresholds stand."""
        return len(self._learnt) > 0

    @property
    def doubtful(self) -> bool:
        """Whether all layers are slower and it is not known yet whether that lasts: learning it would explain it away."""
        return self._common_s is not None and self._lasted_s(self._common_s) < _LASTING_S

    def step(
        self,
        rows: F64,
        clock_drop: float,
        sampled_all: bool,
        nobody_else: bool = False,
        somebody_else: bool = False,
    ) -> list[Finding]:
        """Judge sampled executions, JUDGED rows of the ring without HIT (filled in here).

        Args:
            clock_drop: log-ratio by which the GPU's clock is below its usual one.
            nobody_else: counters say that no other process is on the GPU.
            somebody_else: they show work beyond what this instance has ever shown.
        """
        if not len(rows):
            return []
        if self.thresholds is None:
            self.ring.push(rows)
            return []
        hits = rows[:, SLICE] > self.thresholds.share
        rows[:, HIT] = hits
        self.ring.push(rows)
        result = self._slices.push(rows[:, TIME], hits, MAX_AGE_S if sampled_all else SPARSE_AGE_S)
        large = rows[:, SLICE] > _LARGE * self.thresholds.share
        if not sampled_all:
            few = self._large.push(rows[:, TIME], large, SPARSE_AGE_S)
            result = few if result is None else result
        if result is not None and nobody_else and result.hits < _UNEXPLAINED * result.needed:
            result = None
        findings = (
            [
                Finding(
                    "layer_slice",
                    result.hits / result.window,
                    result.needed / result.window,
                    result.onset_s,
                    result.p_value,
                )
            ]
            if result
            else []
        )
        levels = [self._level(channel, sampled_all, clock_drop) for channel in self._levels(somebody_else)]
        return findings + self._lasting([level for level in levels if level is not None])

    def _lasting(self, levels: list[Finding]) -> list[Finding]:
        """Without a common slowdown that is small and has not been seen for long enough yet."""
        common = next((level for level in levels if level.channel == "layers_common"), None)
        if common is None:
            self._common_s = None
            return levels
        if self._common_s is None:
            self._common_s = float(self.ring.last(1)[0, TIME])
        if self.doubtful and common.score <= _BEYOND_DOUBT * common.threshold:
            levels.remove(common)
        return levels

    def _lasted_s(self, since_s: float) -> float:
        return float(self.ring.last(1)[0, TIME]) - since_s

    def crowded(self, rows: F64, sampled_all: bool) -> bool:
        """Whether the latest executions, which `step` has judged, hold a slice, and others are closer to it than by chance."""
        max_age_s = MAX_AGE_S if sampled_all else SPARSE_AGE_S
        return some(rows[:, HIT] > 0) and self._slices.crowded(max_age_s)

    def lingers(
        self,
        channels: Container[str],
        rows: F64,
        clock_drop: float,
        sampled_all: bool,
        somebody_else: bool = False,
    ) -> bool:
        """Whether the latest executions still show what these channels found, if a little less of it; the rest as in `step`."""
        if self.thresholds is None or not len(rows):
            return False
        slice_ = _LINGERING * self.thresholds.share
        if "layer_slice" in channels and some(rows[:, SLICE] > slice_):
            latest = self.ring.last(_SLICES_AMONG)
            if np.count_nonzero(latest[:, SLICE] > slice_) > 1:
                return True
        return any(
            self._level(channel, sampled_all, clock_drop, _LINGERING)
            for channel in self._levels(somebody_else)
            if channel in channels
        )

    def _levels(self, somebody_else: bool) -> list[str]:
        """Channels of levels; that of many slower layers is for what somebody else does."""
        return [channel for channel in _WINDOWS if somebody_else or channel != "layers_spread"]

    def _level(self, channel: str, sampled_all: bool, clock_drop: float, part: float = 1.0) -> Finding | None:
        """What the median of the latest sampled executions shows; beyond this part of the threshold only."""
        assert self.thresholds is not None
        column, whole = _WINDOWS[channel]
        window = whole if sampled_all else int(whole * _SPARSE)
        latest = self.ring.last(window)
        if len(latest) < window:
            return None
        level = median(latest[:, column])
        threshold = _SPREAD
        if channel == "layers_common":
            level, threshold = level - max(self._common_drift, 0.0) - clock_drop, self.thresholds.common
        elif channel == "layers_sum":
            level, threshold = level - max(self._total_drift, 0.0) - clock_drop, self.thresholds.total
        threshold *= 1.0 if sampled_all else _FEW
        if level <= part * threshold:
            return None
        return Finding(channel, level, threshold, float(latest[window // 2, TIME]))

    def learn(self, rows: F64, sampled_all: bool) -> None:
        """Fold in sampled executions that were judged and found healthy."""
        if not len(rows):
            return
        self._learning.push(rows[:, SLICE : TOTAL + 1])
        self._learn_thresholds(sampled_all)
        if self.thresholds is None:
            return
        self._slices.learn(rows[:, HIT] > 0)
        self._large.learn(rows[:, SLICE] > _LARGE * self.thresholds.share)
        self._common_drift += (
            float(np.add.reduce(clipped(rows[:, COMMON] - self._common_drift, 0.1))) / _DRIFT_EXECUTIONS
        )
        self._total_drift += (
            float(np.add.reduce(clipped(rows[:, TOTAL] - self._total_drift, 0.2))) / _DRIFT_EXECUTIONS
        )

    def clear(self) -> None:
        """Forget the latest executions: an episode has ended."""
        if self.thresholds is not None:
            self.ring.clear()
        if self.settled:
            self._learning.clear()  # what came right before a trouble may have been part of it
        self._slices.clear()
        self._large.clear()
        self._common_s = None

    def _learn_thresholds(self, sampled_all: bool) -> None:
        rows = self._learning.last(_WARM_UP)
        whole = len(rows) == _WARM_UP
        early = not sampled_all and self.thresholds is None and len(rows) >= _FIRST
        if not (whole or early):
            return
        slices, common, total = rows.T
        lot = [
            learned.slice_share(slices, whole),
            learned.common_mode(common - self._common_drift),
            learned.sum_level(total - max(self._total_drift, 0.0)),
        ]
        first = self.thresholds
        if whole:
            self._learnt.add(lot)
            self._learning.clear()
            lot = self._learnt.agreed()
            if first is not None and len(self._learnt) == 1:
                # Baselines have settled since the early ones: what is noisier now was not healthy.
                lot = np.minimum(lot, astuple(first)).tolist()
        self.thresholds = Thresholds(*lot)
        if first is None:
            self._slices.warm_up(slices > self.thresholds.share)

    def state(self) -> State:
        t = self.thresholds
        return {
            "thresholds": None if t is None else [t.share, t.common, t.total],
            "ring": self.ring.state(),
            "learning": self._learning.state(),
            "learnt": self._learnt.state(),
            "slices": self._slices.state(),
            "large": self._large.state(),
            "drift": [self._common_drift, self._total_drift],
            "common_s": self._common_s,
        }

    @classmethod
    def restore(cls, state: State) -> LayerWatch:
        self = cls()
        self.thresholds = None if state["thresholds"] is None else Thresholds(*state["thresholds"])
        self.ring = Ring.restore(state["ring"])
        self._slices.load(state["slices"])
        self._large.load(state["large"])
        self._learning = Ring.restore(state["learning"])
        self._learnt = Lots.restore(state["learnt"])
        self._common_drift, self._total_drift = state["drift"]
        self._common_s = state["common_s"]
        return self
