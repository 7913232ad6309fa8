"""What executions take end to end, by the path that they went: the caller's own context or its profiled twin, eager or as a graph.

A twin does not take what the caller's context takes: 1.7 times as long where that one is a captured graph, 0.7 times where
the host has slept before and the twin is prepared first (encoders, H200). How many run on it changes with the sampling, so
one baseline for all would call it trouble each time that an order raises or lowers it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from layerwatch.detectors.arrays import F64, Bools, Ints, State
from layerwatch.detectors.baseline import ShapeBaseline
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.shape_change import ShapeChange
from layerwatch.detectors.shapes import Point
from layerwatch.schemas.profiles import ON_TWIN

#: Executions, all on twins, after which these are what is usual: a canary is over by then.
_ALWAYS_ON_TWINS = 20_000


class Expected(NamedTuple):
    """Of n executions: what their shapes take, what they should take themselves, on how many that rests, and where it is
    `known` at all; elsewhere both times are the execution's own."""

    shape_ms: F64
    expected_ms: F64
    seen: Ints
    known: Bools


@dataclass(slots=True)
class _Path:
    baseline: ShapeBaseline = field(default_factory=lambda: ShapeBaseline(1))
    change: ShapeChange = field(default_factory=ShapeChange)


class EndToEnd:
    """Of one build on one instance."""

    def __init__(self) -> None:
        self._paths: dict[int, _Path] = {}  # by the bits of `Executions.path`
        #: The latest message and its paths: it is asked for them three times.
        self._latest: tuple[Executions, list[tuple[int, Ints]]] | None = None

    @property
    def seen(self) -> int:
        """Executions that it rests on."""
        return sum(path.baseline.seen for path in self._paths.values())

    def expected(self, batch: Executions, points: list[Point]) -> Expected | None:
        """None as long as no path of the batch is known. `points` are of the batch's shapes."""
        found: Expected | None = None
        for which, at in self._by_path(batch):
            path = self._paths.get(which)
            if path is None or not path.baseline.fitted:
                continue
            log_ms, seen = path.baseline.expected(points)
            shape_ms = np.exp(log_ms[batch.shape[at], 0])
            own = Expected(
                shape_ms,
                path.change.expected_ms(shape_ms, batch.changed[at]),
                seen[batch.shape[at]],
                np.ones(len(shape_ms), bool),
            )
            if len(shape_ms) == len(batch):
                return own
            if found is None:
                found = _unknown(batch)
            for whole, part in zip(found, own, strict=True):
                whole[at] = part
        return found

    def longer(self, batch: Executions, points: list[Point]) -> F64 | None:
        """[n] log-ratio of what each path takes to what the usual one does, NaN where that is not known; None where it is 0."""
        usual = self._usual()
        paths = self._by_path(batch)
        if [which for which, _ in paths] == [usual]:
            return None
        ratio = np.full(len(batch), np.nan)
        if usual is None:
            return ratio
        usual_log_ms, _ = self._paths[usual].baseline.expected(points)
        for which, at in paths:
            path = self._paths.get(which)
            if path is not None and path.baseline.fitted:
                log_ms, _ = path.baseline.expected(points)
                ratio[at] = (log_ms - usual_log_ms)[batch.shape[at], 0]
        return ratio

    def _usual(self) -> int | None:
        """The path of the caller's own context that most have gone; that of twins where there has never been another."""
        seen = {which: path.baseline.seen for which, path in self._paths.items() if path.baseline.fitted}
        own = {which: count for which, count in seen.items() if not which & ON_TWIN}
        if own:
            return max(own, key=own.__getitem__)
        return next((which for which, count in seen.items() if count >= _ALWAYS_ON_TWINS), None)

    def learn(
        self, batch: Executions, points: list[Point], healthy: Bools, expected: Expected | None
    ) -> None:
        """Fold in the `healthy` ones [n]; `expected` is what was expected of the batch."""
        for which, at in self._by_path(batch):
            rows = at[healthy[at]]
            if not len(rows):
                continue
            path = self._paths.get(which)
            if path is None:
                path = self._paths[which] = _Path()
            weight = path.baseline.weight(points, batch.shape[rows])
            if not weight:
                continue
            own_ms = batch.end_to_end_ms[rows]
            if expected is not None and expected.known[rows[0]]:
                path.change.learn(own_ms, expected.shape_ms[rows], batch.changed[rows], weight)
                own_ms = path.change.without(own_ms, batch.changed[rows])
            path.baseline.learn(points, batch.shape[rows], np.log(own_ms)[:, None], weight)

    def _by_path(self, batch: Executions) -> list[tuple[int, Ints]]:
        """Each path of a batch, and its executions."""
        if self._latest is None or self._latest[0] is not batch:
            paths = sorted(set(batch.path.tolist()))
            whole = [(paths[0], np.arange(len(batch)))] if len(paths) == 1 else None
            self._latest = batch, whole or [(which, np.flatnonzero(batch.path == which)) for which in paths]
        return self._latest[1]

    def shift(self, log_ratio: float) -> None:
        """Expect all to take longer by so much."""
        for path in self._paths.values():
            path.baseline.shift(log_ratio)

    def state(self) -> State:
        return {
            str(which): {"baseline": path.baseline.state(), "change": path.change.state()}
            for which, path in self._paths.items()
        }

    @classmethod
    def restore(cls, state: State) -> EndToEnd:
        self = cls()
        for which, path in state.items():
            self._paths[int(which)] = _Path(
                ShapeBaseline.restore(path["baseline"]), ShapeChange.restore(path["change"])
            )
        return self


def _unknown(batch: Executions) -> Expected:
    own_ms, n = batch.end_to_end_ms, len(batch)
    return Expected(own_ms.copy(), own_ms.copy(), np.zeros(n, np.int64), np.zeros(n, bool))
