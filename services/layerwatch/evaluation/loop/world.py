"""A simulated service: arrivals, replicas with a queue each, two faults, and all stages of layerwatch watching it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from layerwatch.evaluation.loop.engines import F64, FP16, INT8, Build, execute, message
from layerwatch.evaluation.loop.obedience import Obedience
from layerwatch.evaluation.loop.watching import Watching
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision

START_S = 1_800_000_000.0

#: Replicas that serve without any decision, and what an autoscaler adds when it is asked to; start-up in s.
REPLICAS, ADDED, STARTUP_S = 4, 2, 60.0

#: Requests a second in all: two thirds of what four healthy replicas can do.
RATE = 108.0

#: The faults (s from the start): another process on the first replica's GPU; inputs that leave INT8's ranges.
CROWDED_S, DRIFTED_S = (120.0, 360.0), (600.0, 900.0)
LENGTH_S = 1500

#: Of the outputs of drifted inputs in INT8, so many are wrong; and requests above this latency are late.
WRONG_SHARE, TARGET_MS = 0.12, 100.0

_RECENT_S = 10


@dataclass(slots=True)
class Replica:
    """One instance. `free_s`: when it has worked off what has arrived."""

    name: str
    serves_s: float
    build: Build = INT8
    free_s: float = 0.0
    sequence: int = 0
    retired: bool = False


@dataclass(slots=True)
class Second:
    """What one second showed."""

    p99_ms: float
    waiting: int
    replicas: int
    on_fp16: int
    wrong: float


@dataclass(slots=True)
class Story:
    """A run from `start_s` (unix s) on: by second, and what was told. `late` and `wrong` are counted in requests, `replica_s` in replica-seconds."""

    closed: bool
    start_s: float = START_S
    seconds: list[Second] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    requests: int = 0
    late: int = 0
    wrong: float = 0.0
    replica_s: float = 0.0


class World:
    """`closed`: whether runtimes and autoscaler obey. The same seed gives the same arrivals with the loop open and closed.

    Runtimes know decisions as their topic holds them, the autoscaler what `watching` tells it.
    """

    def __init__(self, watching: Watching, *, closed: bool, start_s: float = START_S, seed: int = 0) -> None:
        self.story = Story(closed, start_s)
        self._closed = closed
        self._arriving, self._working = (np.random.default_rng([seed, i]) for i in range(2))
        self._watching = watching
        for build in (INT8, FP16):
            watching.manifest(build.manifest("simulated"))
        self._obedience = Obedience()
        self._replicas = [Replica(f"r{i}", start_s) for i in range(REPLICAS)]
        self._named = REPLICAS
        self._turn = 0
        self._recent: deque[F64] = deque(maxlen=_RECENT_S)

    def run(self, progress: Callable[[int], None] = lambda seconds: None) -> Story:
        """`progress` is told the seconds that are done."""
        for second in range(LENGTH_S):
            self._step(self.story.start_s + second)
            progress(second + 1)
        return self.story

    def _step(self, now_s: float) -> None:
        if self._closed:
            self._act(now_s)
        arrivals = np.sort(now_s + self._arriving.random(self._arriving.poisson(RATE)))
        serving = [r for r in self._replicas if r.serves_s <= now_s and not r.retired]
        queues: dict[str, list[float]] = {replica.name: [] for replica in serving}
        for at_s in arrivals.tolist():
            queues[serving[self._turn % len(serving)].name].append(at_s)
            self._turn += 1
        latencies, wrong = [], 0.0
        drifted = self._within(DRIFTED_S, now_s)
        for replica in serving:
            latencies.append(self._serve(replica, queues[replica.name], now_s, drifted))
            wrong += WRONG_SHARE * len(queues[replica.name]) if drifted and replica.build is INT8 else 0.0
        for replica in [r for r in self._replicas if r.retired]:
            self._serve(replica, [], now_s, drifted)
            self._replicas.remove(replica)
        alerts, decisions = self._watching.told(now_s + 1.0)
        self.story.alerts += alerts
        self.story.decisions += decisions
        self._obedience.hear(decisions)
        self._tell(np.concatenate(latencies), serving, wrong, now_s)

    def _serve(self, replica: Replica, arrivals: list[float], now_s: float, drifted: bool) -> F64:
        """First come, first served; returns latencies in ms, waiting included, and tells layerwatch of the executions."""
        crowded = replica.name == "r0" and self._within(CROWDED_S, now_s)
        executed = execute(replica.build, len(arrivals), crowded, self._working)
        ends = np.empty(len(arrivals))
        for i, (at_s, took_ms) in enumerate(zip(arrivals, executed.end_to_end_ms.tolist(), strict=True)):
            replica.free_s = max(replica.free_s, at_s) + took_ms / 1e3
            ends[i] = replica.free_s
        batch = message(
            replica.name,
            (round(self.story.start_s * 1000), replica.sequence),
            replica.build,
            (now_s, now_s + 1.0),
            np.array(arrivals),
            executed,
            crowded=crowded,
            drifted=drifted,
            leaving=replica.retired,
            rng=self._working,
        )
        replica.sequence += 1
        self._watching.update(batch)
        latencies_ms: F64 = (ends - np.array(arrivals)) * 1e3
        return latencies_ms

    def _act(self, now_s: float) -> None:
        """The runtimes switch, and the autoscaler starts or stops replicas."""
        for replica in self._replicas:
            replica.build = FP16 if self._obedience.engine_of(replica.name, now_s) == FP16.name else INT8
        wanted = self._watching.replicas(REPLICAS, now_s)
        while len(self._replicas) < wanted:
            self._replicas.append(Replica(f"r{self._named}", now_s + STARTUP_S))
            self._named += 1
        for replica in self._replicas[wanted:]:
            replica.retired = True

    def _tell(
        self,
        latencies_ms: F64,
        serving: list[Replica],
        wrong: float,
        now_s: float,
    ) -> None:
        story = self.story
        self._recent.append(latencies_ms)
        recent = np.concatenate(self._recent)
        story.seconds.append(
            Second(
                p99_ms=float(np.quantile(recent, 0.99)) if len(recent) else float("nan"),
                waiting=int(sum(max(0.0, r.free_s - now_s - 1.0) for r in serving) * RATE / REPLICAS),
                replicas=len(serving),
                on_fp16=sum(r.build is FP16 for r in serving),
                wrong=wrong / max(len(latencies_ms), 1),
            )
        )
        story.requests += len(latencies_ms)
        story.late += int((latencies_ms > TARGET_MS).sum())
        story.wrong += wrong
        story.replica_s += len(self._replicas)

    def _within(self, span_s: tuple[float, float], now_s: float) -> bool:
        return span_s[0] <= now_s - self.story.start_s < span_s[1]
