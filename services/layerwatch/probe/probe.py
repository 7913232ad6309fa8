"""The probe of one engine in a serving process: times every execution, samples the layers of some.

    from layerwatch.probe import Probe
    probe = Probe(engine, service="bert-qa", plan="bert.plan")
    with probe.execution(context, stream, shapes) as run:
        run.context.execute_async_v3(stream)
        run.launched()                                        # the probe does its own work while the GPU does its
        ...                                                   # copy the results back and wait for them, as before

It starts no thread, raises nothing and waits for nothing but the GPU. Where it cannot work, executions go on unwatched:
`problem` says why, and `counters()` how many.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from typing import Any

from layerwatch.probe.interfaces import Cuda
from layerwatch.probe.lane import Lane
from layerwatch.probe.run import FullRun
from layerwatch.probe.usual import ProbeBase, Run, Shapes
from layerwatch.probe.watch import Holder, Watch, follow_forks
from layerwatch.schemas.control_page import Route
from layerwatch.schemas.profiles import IN_GRAPH
from layerwatch.schemas.ring import COUNTERS
from layerwatch.schemas.runtimes import DEFAULT_FOLDER, MAX_RINGS

_log = logging.getLogger(__name__)

#: Share of executions that are sampled while no agent says otherwise.
BASELINE_RATE = 0.001


class Probe(ProbeBase):
    """Watches one engine. All threads may share it."""

    __slots__ = ("__weakref__", "_unwatched", "_watch", "problem")  # no dict: one thing less to fetch

    def __init__(
        self,
        engine: Any,
        *,
        service: str,
        plan: str | None = None,
        instance: str | None = None,
        folder: str = DEFAULT_FOLDER,
        rate: float = BASELINE_RATE,
        waits: bool = True,
        shares_profiles: bool = False,
        trt: Any = None,
        cuda: Cuda | None = None,
    ) -> None:
        """Never raises for what it finds; takes no device memory until an execution is sampled.

        `plan` names the engine's file, which is then read once for its hash: builds are told apart by it. `instance` is
        this process's name for the service (default: host and process id). `folder` is shared with the agent. `rate` is
        the share of executions to sample while no agent says otherwise. `waits` says that the caller's block ends only
        when the results are there; without, CUDA events time it, and host and GPU go on side by side: its stream must live
        until the next execution then. `shares_profiles` says of an engine of TensorRT 8.6 or 9 that it was built with
        `PreviewFeature.PROFILE_SHARING_0806`, where no notes of `layerwatch engine build` beside `plan` do. `trt` and
        `cuda` stand for the tensorrt module and the driver (tests).
        """
        self.problem = ""
        self._unwatched = 0
        self._watch: Watch | None = None
        self._local = threading.local()
        try:
            host = socket.gethostname()
            self._watch = Watch(
                engine,
                {
                    "service": service,
                    "instance": instance or f"{host}-{os.getpid()}-{_next_number()}",
                    "boot_ms": time.time_ns() // 1_000_000,
                    "pid": os.getpid(),
                    "host": host,
                },
                {
                    "plan": plan,
                    "folder": folder,
                    "rate": min(max(float(rate), 0.0), 1.0),
                    "waits": waits,
                    "shares_profiles": shares_profiles,
                    "trt": trt or _tensorrt(),
                    "cuda": cuda or _driver(),
                },
            )
            weakref.finalize(self, self._watch.close, "closed")
            follow_forks(self._watch)
        except Exception as error:  # noqa: BLE001 - a runtime serves with or without us
            self.problem = f"executions are not watched: {error!r}"
            _log.warning("%s", self.problem, exc_info=_log.isEnabledFor(logging.DEBUG))

    def _full_execution(
        self,
        context: Any,
        stream: Any,
        shapes: Shapes | None = None,
        *,
        graph: bool = False,
        request_id: int = 0,
    ) -> Run:
        """An execution that is not the usual one."""
        try:
            lane: Lane | None = self._local.lane
        except AttributeError:
            lane = self._join()
        if lane is None or lane.closed:
            self._unwatched += 1
            lane = None
        return FullRun(lane, context, stream, shapes, IN_GRAPH if graph else 0, request_id)

    def counters(self) -> dict[str, int]:
        """`executions`, `unwatched`, and what else was counted since the start, summed over threads."""
        totals = dict.fromkeys(COUNTERS, 0)
        lanes = list(self._watch.lanes) if self._watch is not None and self._watch.off != "forked" else []
        for lane in lanes:
            for name, value in lane.ring.counters().items():
                totals[name] += value
        executions = sum(lane.ring.position + lane.has_deferred + lane.owes for lane in lanes)
        return {"executions": executions, "unwatched": self._unwatched, **totals}

    def twin_bytes(self, profile: int = 0) -> int:
        """Device memory that sampling this profile will take at least; 0 where TensorRT does not say."""
        return self._watch.sampling.twin_bytes(profile) if self._watch is not None else 0

    @property
    def tier(self) -> str:
        """What is sampled just now, as the latest look at the page said: off, baseline, evidence or canary."""
        return self._watch.sampling.page.tier if self._watch is not None else "off"

    def route(self) -> Route | None:
        """The routing decision that holds for this instance, as its agent shows it; None without one. See EngineSwitch."""
        watch = self._watch
        if watch is None or watch.off:
            return None
        return watch.sampling.page.route(time.perf_counter_ns())

    @property
    def refusals(self) -> dict[int, str]:
        """The profiles that have no twin, and why."""
        return dict(self._watch.sampling.refusals) if self._watch is not None else {}

    def close(self) -> None:
        """Say goodbye and give the twins' memory back; what runs afterwards is not watched. Done at exit, too."""
        if self._watch is not None:
            self._watch.close("closed")

    def _join(self) -> Lane | None:
        """This thread's first execution."""
        lane: Lane | None = None
        watch = self._watch
        if watch is not None and not watch.off:
            try:
                lane = watch.lane()
                if lane is None:
                    self.problem = f"threads beyond the first {MAX_RINGS} are not watched"
            except Exception as error:  # noqa: BLE001 - a full disk, say
                self.problem = f"a thread is not watched: {error!r}"
                _log.warning("%s", self.problem)
        self._local.holder = Holder(lane, watch.free if watch is not None else deque())
        self._local.lane = lane
        return lane


_counted = 0


def _next_number() -> int:
    """Of this probe in its process."""
    global _counted
    _counted += 1
    return _counted - 1


def _tensorrt() -> Any:
    import tensorrt

    return tensorrt


def _driver() -> Cuda:
    from layerwatch.probe.cuda import CudaDriver

    return CudaDriver()
