"""Cuts a run of executions into the messages that an agent would have sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from layerwatch.schemas.profiles import MAX_SAMPLED, LayerBlock, PrecisionBlock, ProfileBatch

#: Seconds that one message covers at most (source: architecture, "one message each second").
WINDOW_S = 1.0

#: A silence longer than this many windows is told by its first and last heartbeats only.
_MAX_HEARTBEATS = 120


@dataclass(frozen=True, slots=True)
class LayerTable:
    """Layer times of some executions of one build and profile: `rows` [k] ascending, `times_ms` [k, layers]."""

    engine: int
    profile: int
    rows: NDArray[np.int64]
    times_ms: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PrecisionTable:
    """Columns of `PrecisionBlock` for every execution."""

    clipped: NDArray[np.float32]
    peak_ratio: NDArray[np.float32]
    cosine: NDArray[np.float32]
    relative_l2: NDArray[np.float32]
    top1_agreement: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """All executions of one instance, in order; arrays are [n]."""

    service: str
    instance: str
    engines: list[str]
    times_s: NDArray[np.float64]
    engine: NDArray[np.int64]
    profile: NDArray[np.int64]
    shape: NDArray[np.int64]  # [n, 2]: batch and second dimension
    end_to_end_ms: NDArray[np.float32]
    flags: NDArray[np.uint8]
    layers: list[LayerTable]
    counters: NDArray[np.float64]  # [m, 14]
    precision: PrecisionTable | None = None
    gpu: str = ""
    input_name: str = "input"
    boot_ms: int = field(default=0)
    host_ms: NDArray[np.float32] | None = None


def cut(run: Run) -> Iterator[ProfileBatch]:
    """One message a second of the run's clock, or sooner after 64 executions or a change of engine; a farewell last."""
    sequence = 0
    clock_s = float(run.times_s[0] - run.end_to_end_ms[0] / 1e3)
    begin = 0
    counters_from = 0
    for end in _ends(run):
        last_s = float(run.times_s[end - 1])
        for beat_s in _heartbeats(clock_s, float(run.times_s[begin])):
            yield _message(run, sequence, begin, begin, clock_s, beat_s, run.counters[:0])
            sequence, clock_s = sequence + 1, beat_s
        until = int(np.searchsorted(run.counters[:, 0], last_s, side="right")) if len(run.counters) else 0
        yield _message(run, sequence, begin, end, clock_s, last_s, run.counters[counters_from:until])
        sequence, clock_s, begin, counters_from = sequence + 1, last_s, end, until
    yield _message(
        run, sequence, begin, begin, clock_s, clock_s + WINDOW_S, run.counters[:0], state="leaving"
    )


def _ends(run: Run) -> Iterator[int]:
    begin, start_s = 0, float(run.times_s[0])
    for i in range(1, len(run.times_s)):
        full = i - begin == MAX_SAMPLED
        if full or run.times_s[i] - start_s >= WINDOW_S or run.engine[i] != run.engine[i - 1]:
            yield i
            begin, start_s = i, float(run.times_s[i])
    yield len(run.times_s)


def _heartbeats(clock_s: float, next_s: float) -> Iterator[float]:
    for _ in range(_MAX_HEARTBEATS):
        if next_s - clock_s <= 2 * WINDOW_S:
            return
        clock_s += WINDOW_S
        yield clock_s


def _message(
    run: Run,
    sequence: int,
    begin: int,
    end: int,
    start_s: float,
    end_s: float,
    counters: NDArray[np.float64],
    state: str = "serving",
) -> ProfileBatch:
    part = slice(begin, end)
    shapes, shape_index = np.unique(run.shape[part], axis=0, return_inverse=True)
    engine = int(run.engine[min(begin, len(run.engine) - 1)])
    return ProfileBatch(
        service=run.service,
        instance=run.instance,
        boot_ms=run.boot_ms,
        sequence=sequence,
        engine=run.engines[engine],
        window_start_s=start_s,
        window_end_s=end_s,
        gpu=run.gpu,
        state=state if end > begin or state == "leaving" else "idle",
        shapes=[{run.input_name: [int(d) for d in shape]} for shape in shapes],
        times_s=run.times_s[part].astype("<f8").tobytes(),
        shape_index=shape_index.reshape(-1).astype("<u2").tobytes(),
        profile_index=run.profile[part].astype("u1").tobytes(),
        flags=run.flags[part].tobytes(),
        end_to_end_ms=run.end_to_end_ms[part].astype("<f4").tobytes(),
        host_ms=run.host_ms[part].astype("<f4").tobytes() if run.host_ms is not None else b"",
        layers=[block for table in run.layers if (block := _block(table, engine, begin, end))],
        counters=counters.astype("<f8").tobytes(),
        precision=_precision(run.precision, begin, end)
        if run.precision is not None and end > begin
        else None,
    )


def _block(table: LayerTable, engine: int, begin: int, end: int) -> LayerBlock | None:
    low, high = np.searchsorted(table.rows, (begin, end))
    if table.engine != engine or low == high:
        return None
    return LayerBlock(
        profile=table.profile,
        layers=table.times_ms.shape[1],
        rows=(table.rows[low:high] - begin).astype("<u4").tobytes(),
        times_ms=np.ascontiguousarray(table.times_ms[low:high], "<f4").tobytes(),
    )


def _precision(table: PrecisionTable, begin: int, end: int) -> PrecisionBlock:
    part = slice(begin, end)
    return PrecisionBlock(
        rows=np.arange(end - begin, dtype="<u4").tobytes(),
        tensors=table.clipped.shape[1],
        clipped=np.ascontiguousarray(table.clipped[part]).tobytes(),
        peak_ratio=np.ascontiguousarray(table.peak_ratio[part]).tobytes(),
        cosine=table.cosine[part].tobytes(),
        relative_l2=table.relative_l2[part].tobytes(),
        top1_agreement=table.top1_agreement[part].tobytes(),
    )
