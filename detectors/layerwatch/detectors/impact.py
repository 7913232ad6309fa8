"""What the requests of an episode felt: end-to-end ratios, as a whole and by shape."""

from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64, State
from layerwatch.schemas.alerts import BucketImpact, Impact

_AFFECTED = 0.3  # log units: a third slower than its shape should be
_KEPT = 1024  # latest executions that quantiles are taken from
_SHAPES, _LISTED = 64, 5

_RATIO, _OBSERVED, _EXPECTED = range(3)


class ImpactTally:
    """Executions since an onset."""

    def __init__(self) -> None:
        self.executions = 0
        self._affected = 0
        self._rows = np.empty((0, 3))
        self._shapes: dict[tuple[int, tuple[tuple[str, tuple[int, ...]], ...]], list[float]] = {}

    def add(self, log_ratio: F64, observed_ms: F64, expected_ms: F64) -> None:
        self.executions += len(log_ratio)
        self._affected += int((log_ratio > _AFFECTED).sum())
        self._rows = np.concatenate((self._rows, np.column_stack((log_ratio, observed_ms, expected_ms))))[
            -_KEPT:
        ]

    def add_shape(self, profile: int, shape: dict[str, list[int]], log_ratio: F64) -> None:
        key = (profile, tuple((name, tuple(dims)) for name, dims in sorted(shape.items())))
        if key in self._shapes or len(self._shapes) < _SHAPES:
            tally = self._shapes.setdefault(key, [0, 0.0])
            tally[0] += len(log_ratio)
            tally[1] += float(log_ratio.sum())

    def impact(self) -> Impact:
        rows = self._rows if len(self._rows) else np.zeros((1, 3))
        ratio = np.exp(rows[:, _RATIO])
        return Impact(
            executions=self.executions,
            affected=self._affected,
            p50_ratio=round(float(np.quantile(ratio, 0.5)), 3),
            p99_ratio=round(float(np.quantile(ratio, 0.99)), 3),
            baseline_p99_ms=round(float(np.quantile(rows[:, _EXPECTED], 0.99)), 3),
            observed_p99_ms=round(float(np.quantile(rows[:, _OBSERVED], 0.99)), 3),
        )

    def buckets(self) -> list[BucketImpact]:
        """The shapes that lost most, by executions times log-ratio."""
        worst = sorted(self._shapes.items(), key=lambda item: -item[1][1])[:_LISTED]
        return [
            BucketImpact(
                profile,
                {name: list(dims) for name, dims in shape},
                int(n),
                round(float(np.exp(total / n)), 3),
            )
            for (profile, shape), (n, total) in worst
            if total > 0
        ]

    def state(self) -> State:
        return {
            "executions": self.executions,
            "affected": self._affected,
            "rows": self._rows.astype(np.float32),
            "shapes": [
                [profile, [list(s) for s in shape], *tally]
                for (profile, shape), tally in self._shapes.items()
            ],
        }

    @classmethod
    def restore(cls, state: State) -> ImpactTally:
        self = cls()
        self.executions, self._affected = state["executions"], state["affected"]
        self._rows = state["rows"].astype(np.float64)
        for profile, shape, n, total in state["shapes"]:
            self._shapes[profile, tuple((name, tuple(dims)) for name, dims in shape)] = [n, total]
        return self
