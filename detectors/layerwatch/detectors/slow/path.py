"""The slow path of one build on one instance: executions to blocks, blocks to levels, levels to an episode."""

from __future__ import annotations

import hashlib
from collections import deque

import numpy as np
from numpy.typing import NDArray

from layerwatch.detectors.arrays import F32, F64, Bools, Ints, State
from layerwatch.detectors.batch import Executions
from layerwatch.detectors.forecast import LstmWeights
from layerwatch.detectors.shapes import Point
from layerwatch.detectors.slow.block import COLUMNS, LOG_END_TO_END, LOG_LAYERS, PROFILE, Block, BlockBuffer
from layerwatch.detectors.slow.levels import END_TO_END, KINDS, LAYERS, levels_of
from layerwatch.detectors.slow.mix import ChainedIndex
from layerwatch.detectors.slow.precursor import Precursor, Rise
from layerwatch.detectors.slow.reference import Reference
from layerwatch.detectors.slow.watch import KINDS as ALARMS
from layerwatch.detectors.slow.watch import Watch
from layerwatch.schemas.signals import Episode

#: False alarms of an instance that its streams may raise between them (a month); a service of ten has one.
PAGES_PER_MONTH = 0.1

#: Besides all executions together, those that should be cheap, middling and dear: what hurts long inputs only.
_CLASSES = ("cheapest", "middle", "dearest")
_CLASS_KINDS = (LAYERS, END_TO_END)
STREAMS = len(KINDS) + len(_CLASSES) * len(_CLASS_KINDS)
_WARM_BLOCKS = 60
_REPEATED_S = 120.0


class SlowPath:
    """Fold in executions with `push`; `episodes` are what is to be told after it."""

    def __init__(self, instance: str, engine: str, reference: Reference | None = None) -> None:
        self._instance, self._engine = instance, engine
        self._buffer = BlockBuffer()
        self._reference = reference or Reference()
        self._index = ChainedIndex(len(KINDS))
        self._classes = [ChainedIndex(len(_CLASS_KINDS)) for _ in _CLASSES]
        self._lstm: LstmWeights | None = None
        self._watch = Watch(STREAMS, _seeds(instance, engine), None, PAGES_PER_MONTH)
        self._saved: State | None = None  # of the watch, until it is known which models there are
        self._ends_s: deque[float] = deque(maxlen=96)
        self._felt = 0.0
        self._blocks = 0
        self._precursor: Precursor | None = None
        self._closed: Episode | None = None
        #: Levels of the healthy block that ended with the latest push, by stream.
        self.healthy_minute: dict[str, float] = {}
        self.judged = 0  # blocks, also those that were passed over

    @property
    def status(self) -> str:
        if self._blocks < _WARM_BLOCKS:
            return "learning"
        return "degraded" if self._watch.degraded[: len(KINDS)].any() else "watching"

    @property
    def suspected(self) -> bool:
        """Whether something creeps, or evidence of it gathers as it does once in a month without cause."""
        return self._precursor is not None or self._watch.suspected

    @property
    def episodes(self) -> list[Episode]:
        """The open one, or the one that closed with the latest push."""
        if self._precursor is not None:
            return [self._precursor.snapshot(self._felt)]
        return [] if self._closed is None else [self._closed]

    def push(
        self,
        batch: Executions,
        points: list[Point],
        fit: Bools,
        longer: F64 | None,
        disturbed: bool,
        lstm: LstmWeights | None,
        clock_drop: float,
    ) -> None:
        """Fold in a message's executions.

        Args:
            points: of the message's shapes.
            fit: [n] executions that were judged healthy and are neither cold nor a switch of profile.
            longer: [n] log-ratio of what their paths take to what the usual one does, NaN for executions that cannot be
                put beside those; None where all have gone the usual path.
            disturbed: something is wrong and told already; the block teaches nothing then.
        """
        self._closed, self.healthy_minute = None, {}
        self._take_up(lstm)
        buffer = self._buffer
        if len(batch) and not buffer.start_s:
            buffer.start_s = float(batch.times_s[0])
        buffer.disturbed |= disturbed
        if longer is not None:
            fit = fit & ~np.isnan(longer)
        at = fit.nonzero()[0]
        if len(at):
            kept = at[buffer.all.due(len(at))]
            kept_rows = _rows(batch, points, kept, longer)
            buffer.all.push(len(at), kept_rows)
            for layers in batch.layers:
                sampled = fit[layers.rows].nonzero()[0]
                due = sampled[buffer.sampled.due(len(sampled))]
                alone = len(due) == len(kept) == 1 and layers.rows[due[0]] == kept[0]  # a message of one
                rows = kept_rows.copy() if alone else _rows(batch, points, layers.rows[due], longer)
                rows[:, LOG_LAYERS] = np.log(np.maximum(layers.times_ms[due].sum(1), 1e-6))
                buffer.sampled.push(len(sampled), rows)
        block = buffer.close_if_due(batch.clock_s)
        if block is not None:
            self._judge(block, clock_drop)

    def close(self, clock_s: float) -> list[Episode]:
        """End what is open: the instance has left, or runs another build now."""
        self._closed = None
        self._end(clock_s)
        return self.episodes

    def interrupt(self) -> None:
        """A new process: the block that is half full is void, and what is open goes on."""
        self._buffer.clear()

    def resting(self) -> SlowPath:
        """What stays while another build is served: what this one cost when it was learnt."""
        return SlowPath(self._instance, self._engine, self._reference)

    def _judge(self, block: Block, clock_drop: float) -> None:
        if self._ends_s and 0 <= self._ends_s[-1] - block.end_s < _REPEATED_S:
            return  # a crash between the writes of the state's parts: this block is in it already
        self.judged += 1
        self._ends_s.append(block.end_s)
        if block.disturbed:
            return
        buckets, levels, counts = levels_of(block, self._reference)
        if not buckets:
            return
        self._blocks += 1
        values = np.full(STREAMS, np.nan)
        values[: len(KINDS)] = self._index.update(buckets, levels, counts)
        classes = self._reference.classes(buckets)
        for i, index in enumerate(self._classes):
            at = np.flatnonzero(classes == i)
            if len(at):
                own = levels[at][:, list(_CLASS_KINDS)]
                values[_streams_of(i)] = index.update([buckets[row] for row in at], own, counts[at])
        opened = self._watch.update(values, int(block.end_s // 60)).opened
        calm = np.flatnonzero(~np.isnan(values) & (self._watch.alarm == 0)).tolist()
        self.healthy_minute = {self._what(stream): float(values[stream]) for stream in calm}
        if not np.isnan(values[END_TO_END]):
            self._felt = float(values[END_TO_END])
        self._follow(opened > 0, block, clock_drop)

    def _follow(self, opened: Bools, block: Block, clock_drop: float) -> None:
        alarming = np.flatnonzero(self._watch.alarm)
        if self._precursor is None and opened.any():
            onset_s = min(self._onset_s(stream, block.end_s) for stream in np.flatnonzero(opened).tolist())
            self._precursor = Precursor.open(self._instance, self._engine, onset_s, block.end_s)
        if self._precursor is None:
            return
        if not len(alarming):
            self._precursor.note([], block.executions, clock_drop, block.end_s)
            self._end(block.end_s)
            return
        rises = [self._rise(int(stream), block.end_s) for stream in alarming]
        self._precursor.note(rises, block.executions, clock_drop, block.end_s)

    def _end(self, clock_s: float) -> None:
        if self._precursor is not None:
            self._precursor.closed_s = self._precursor.updated_s = clock_s
            self._closed = self._precursor.snapshot(self._felt)
            self._precursor = None

    def _onset_s(self, stream: int, now_s: float) -> float:
        since = int(self._watch.since[stream])
        if ALARMS[self._watch.alarm[stream]] == "creep":
            return now_s - 60.0 * since
        return self._ends_s[max(0, len(self._ends_s) - 1 - since)]

    def _rise(self, stream: int, now_s: float) -> Rise:
        watch = self._watch
        assert self._precursor is not None
        kind = ALARMS[watch.alarm[stream]]
        return Rise(
            what=self._what(stream),
            kind=kind,
            shift=float(watch.shift[stream]),
            total=watch.level(stream),
            minutes=(now_s - self._precursor.onset_s) / 60,
            usual=float(watch.usual[stream]) / (STREAMS if kind == "shift" else 1),
            threshold=watch.threshold / STREAMS,
            degraded=bool(watch.doubtful[stream]),
        )

    def _what(self, stream: int) -> str:
        if stream < len(KINDS):
            return KINDS[stream]
        which, kind = divmod(stream - len(KINDS), len(_CLASS_KINDS))
        return f"{KINDS[_CLASS_KINDS[kind]]} of the {_CLASSES[which]} third of shapes"

    def _take_up(self, lstm: LstmWeights | None) -> None:
        if self._saved is not None:
            self._watch, self._saved = Watch.restore(self._saved, lstm), None
        elif lstm is not self._lstm:
            self._watch = Watch.restore(self._watch.state(), lstm)
        self._lstm = lstm

    def hot(self) -> State:
        """The present block: what changes with every message."""
        return self._buffer.state()

    def slow(self) -> State:
        """What changes with every block."""
        return {
            "reference": self._reference.state(),
            "index": self._index.state(),
            "watch": self._watch.state() if self._saved is None else self._saved,
            "classes": [index.state() for index in self._classes],
            "ends_s": list(self._ends_s),
            "felt": self._felt,
            "blocks": self._blocks,
            "judged": self.judged,
            "precursor": None if self._precursor is None else self._precursor.state(),
        }

    @classmethod
    def restore(cls, instance: str, engine: str, hot: State, slow: State | None) -> SlowPath:
        self = cls(instance, engine)
        self._buffer = BlockBuffer.restore(hot)
        if slow is not None:
            self._reference = Reference.restore(slow["reference"])
            self._index = ChainedIndex.restore(slow["index"])
            self._saved = slow["watch"]
            self._classes = [ChainedIndex.restore(index) for index in slow["classes"]]
            self._felt, self._blocks = slow["felt"], slow["blocks"]
            self._ends_s = deque(slow["ends_s"], maxlen=96)
            self.judged = slow["judged"]
            if slow["precursor"] is not None:
                self._precursor = Precursor.restore(slow["precursor"])
        return self


def _streams_of(which: int) -> slice:
    """Of one of the classes."""
    first = len(KINDS) + which * len(_CLASS_KINDS)
    return slice(first, first + len(_CLASS_KINDS))


def _rows(batch: Executions, points: list[Point], at: Ints, longer: F64 | None) -> F32:
    """Rows of a block [k, COLUMNS], as on the usual path; the sum of layers is left open."""
    rows = np.full((len(at), COLUMNS), np.nan, np.float32)
    if len(at):
        rows[:, :PROFILE] = np.array(points)[batch.shape[at]]
        rows[:, PROFILE] = batch.profile[at]
        rows[:, LOG_END_TO_END] = np.log(batch.end_to_end_ms[at])
        if longer is not None:
            rows[:, LOG_END_TO_END] -= longer[at]
    return rows


def _seeds(instance: str, engine: str) -> NDArray[np.uint64]:
    head = hashlib.sha256(f"{instance}|{engine}".encode()).digest()
    return np.frombuffer(
        b"".join(hashlib.sha256(head + bytes([i])).digest()[:8] for i in range(STREAMS)), np.uint64
    ).copy()
