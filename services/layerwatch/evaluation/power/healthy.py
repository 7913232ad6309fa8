"""The healthy executions of a recording, without its gaps: a first half to learn from, a second half to inject into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.batch import Executions, executions_of
from layerwatch.detectors.shapes import point_of
from layerwatch.evaluation.executions import F32, F64, Ints
from layerwatch.evaluation.verdict import GRACE_S
from layerwatch.recording.cut import LayerTable, Run
from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.profiles import CHANGED_SHAPE, COUNTER_COLUMNS, SWITCHED_PROFILE

#: Fewer executions teach the detectors nothing and leave none to inject into.
_LEAST_EXECUTIONS = 1000

#: Between two rows of counters that are laid along a stretch (s).
_COUNTERS_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Healthy:
    """Healthy executions of one instance and build; arrays are [n] unless said otherwise.

    `wait_s`: time since the execution before; `stretch`: number of the healthy phase; `row`: into `layer_ms[profile]`
    [sampled, layers], -1 where the layers are not known; `counters` [m, 14].
    """

    name: str
    manifest: Manifest
    wait_s: F64
    stretch: Ints
    shape: Ints  # [n, 2] batch and length
    profile: Ints
    flags: NDArray[np.uint8]  # as in a message
    end_to_end_ms: F64
    row: Ints
    layer_ms: dict[int, F32]
    counters: F64

    def __len__(self) -> int:
        return len(self.wait_s)

    @property
    def half(self) -> int:
        """The first execution that nothing was learnt from."""
        return len(self) // 2

    @property
    def size(self) -> Ints:
        """Elements of each execution's input: tells small shapes from large ones."""
        size: Ints = self.shape.prod(axis=1)
        return size

    def run(self, at: Ints, start_s: float, wait_s: F64 | None = None) -> Run:
        """The executions `at`, one after the other from a time on, as an instance would have run them; all arrays new."""
        times_s = start_s + np.cumsum(self.wait_s[at] if wait_s is None else wait_s)
        layers = []
        for profile, layer_ms in self.layer_ms.items():
            rows = np.flatnonzero((self.profile[at] == profile) & (self.row[at] >= 0))
            layers.append(LayerTable(0, profile, rows, layer_ms[self.row[at[rows]]]))
        ticks_s = np.arange(start_s, times_s[-1], _COUNTERS_EVERY_S) if len(self.counters) else np.empty(0)
        counters = self.counters[np.arange(len(ticks_s)) % max(len(self.counters), 1)].copy()
        if len(ticks_s):
            counters[:, 0] = ticks_s
        return Run(
            service=self.name,
            instance=f"{self.name}-0",
            engines=[self.manifest.engine],
            times_s=times_s,
            engine=np.zeros(len(at), np.int64),
            profile=self.profile[at],
            shape=self.shape[at],
            end_to_end_ms=self.end_to_end_ms[at].astype(np.float32),
            flags=self.flags[at],
            layers=layers,
            counters=counters,
            boot_ms=1,
        )


def healthy_of(recording: Recording) -> Healthy:
    """What is labelled healthy, or all of a recording without labels, of its first instance's most used build.

    The first seconds after a fault are left out. Raises ConfigError where too little is left, or no layers.
    """
    instance = recording.batches[0].instance
    engines = [
        b.engine for b in recording for _ in range(len(b.end_to_end_ms) // 4) if b.instance == instance
    ]
    engine = max(set(engines), key=engines.count)
    manifest = next(manifest for manifest in recording.manifests if manifest.engine == engine)
    parts = [
        executions_of(batch, manifest)
        for batch in recording
        if batch.instance == instance and batch.engine == engine
    ]
    times_s = np.concatenate([part.times_s for part in parts])
    stretch = _stretches(recording, times_s)
    keep = stretch >= 0
    if keep.sum() < _LEAST_EXECUTIONS:
        raise ConfigError(
            f"{recording.name} holds {int(keep.sum())} healthy executions of one build where "
            f"{_LEAST_EXECUTIONS} are needed to inject faults into: record longer"
        )
    row, layer_ms = _layers(parts)
    if not layer_ms:
        raise ConfigError(f"{recording.name} holds no layer times to make slower: record with sampling")
    counters = np.concatenate([part.counters for part in parts]).reshape(-1, len(COUNTER_COLUMNS))
    counters = counters[_stretches(recording, counters[:, 0]) >= 0]
    shapes = [[list(point_of(shape)[:2]) for shape in part.shapes] for part in parts]
    shape = np.concatenate(
        [np.array(shapes[i], np.int64).reshape(-1, 2)[part.shape] for i, part in enumerate(parts)]
    )
    stretch = stretch[keep]
    wait_s = np.diff(times_s[keep], prepend=times_s[keep][0])
    seam = np.diff(stretch, prepend=-1) != 0
    wait_s[seam] = np.median(wait_s[~seam])
    return Healthy(
        name=recording.name,
        manifest=manifest,
        wait_s=wait_s,
        stretch=stretch,
        shape=shape[keep],
        profile=np.concatenate([part.profile for part in parts])[keep],
        flags=np.concatenate([_flags(part) for part in parts])[keep],
        end_to_end_ms=np.concatenate([part.end_to_end_ms for part in parts])[keep],
        row=row[keep],
        layer_ms=layer_ms,
        counters=counters,
    )


def _flags(part: Executions) -> NDArray[np.uint8]:
    flags: NDArray[np.uint8] = (
        np.uint8(SWITCHED_PROFILE) * part.switched + np.uint8(CHANGED_SHAPE) * part.changed
    )
    return flags.astype(np.uint8)


def _stretches(recording: Recording, times_s: F64) -> Ints:
    """The healthy phase that each time is in, -1 for none."""
    if not recording.phases:
        return np.zeros(len(times_s), np.int64)
    stretch = np.full(len(times_s), -1)
    after_fault = False
    for number, phase in enumerate(recording.phases):
        if phase.healthy:
            start_s = phase.start_s + (GRACE_S if after_fault else 0.0)
            stretch[(times_s >= start_s) & (times_s <= phase.end_s)] = number
        after_fault = not phase.healthy
    return stretch


def _layers(parts: list[Executions]) -> tuple[Ints, dict[int, F32]]:
    """Where each execution's layers are in the tables by profile."""
    row = np.full(sum(map(len, parts)), -1)
    tables: dict[int, list[F32]] = {}
    held: dict[int, int] = {}
    before = 0
    for part in parts:
        for block in part.layers:
            first = held.get(block.profile, 0)
            row[before + block.rows] = first + np.arange(len(block.rows))
            held[block.profile] = first + len(block.rows)
            tables.setdefault(block.profile, []).append(block.times_ms)
        before += len(part)
    return row, {profile: np.concatenate(times) for profile, times in tables.items()}
