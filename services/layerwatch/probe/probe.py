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
import secrets
import socket
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from layerwatch.probe.engine_facts import EngineFacts, engine_facts
from layerwatch.probe.folder import RuntimeFolder, remove_abandoned
from layerwatch.probe.interfaces import Cuda, Device, Engine
from layerwatch.probe.lane import Known, Lane, Shapes
from layerwatch.probe.page import GENERATION, Page
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.run import FullRun, Run
from layerwatch.probe.sampling import Sampling
from layerwatch.probe.sender import Sender
from layerwatch.schemas.control_page import LEAVING, SERVING, Route, State
from layerwatch.schemas.profiles import IN_GRAPH
from layerwatch.schemas.ring import COUNTERS
from layerwatch.schemas.runtimes import (
    CONTROL_NAME,
    DEFAULT_FOLDER,
    MAX_RINGS,
    SOCKET_NAME,
    TOKEN_BYTES,
    Runtime,
)

_log = logging.getLogger(__name__)

#: Share of executions that are sampled while no agent says otherwise.
BASELINE_RATE = 0.001


class _Watch:
    """All that a probe has opened. Raises whatever fails while it is made."""

    def __init__(self, engine: Engine, about: dict[str, Any], options: dict[str, Any]) -> None:
        trt, cuda = options["trt"], options["cuda"]
        device = cuda.device()
        facts = engine_facts(
            engine, trt, service=about["service"], gpu_model=device.model, plan=options["plan"]
        )
        root = Path(options["folder"])
        token = secrets.token_bytes(TOKEN_BYTES)
        self.off = ""
        self.lanes: list[Lane] = []
        self.free: deque[Lane] = deque()
        self._making = threading.Lock()
        self._cuda: Cuda = cuda
        self._waits: bool = options["waits"]
        self._token = token
        self._folder = RuntimeFolder(root, token)
        try:
            self._open(engine, facts, about, device, options)
        except BaseException:
            self._folder.discard()
            raise
        remove_abandoned(root)

    def _open(
        self,
        engine: Engine,
        facts: EngineFacts,
        about: dict[str, Any],
        device: Device,
        options: dict[str, Any],
    ) -> None:
        self._page = Page(self._folder.path / CONTROL_NAME, self._token, options["rate"])
        self._folder.write_manifest(facts.manifest)
        self.sampling = Sampling(
            engine,
            options["trt"],
            self._cuda,
            facts,
            self._page,
            Sender(str(Path(options["folder"]) / SOCKET_NAME)),
            self._token,
            self._folder.write_manifest,
        )
        self._page.tell(State(SERVING, 0, 0))
        self._folder.publish(
            Runtime(
                **about,
                engine=facts.manifest.engine,
                token=self._token.hex(),
                gpu=device.uuid,
                gpu_model=device.model,
                tensorrt=facts.manifest.tensorrt,
                inputs=facts.inputs,
                rate=options["rate"],
            )
        )

    def lane(self) -> Lane | None:
        """For a thread: one that another thread has left, or a new one; None where there are too many."""
        try:
            return self.free.popleft()
        except IndexError:
            pass
        with self._making:  # held for the making of one file, at a thread's first execution
            if len(self.lanes) >= MAX_RINGS:
                return None
            ring = RingWriter(self._folder.path, len(self.lanes), self._token)
            made = Lane(ring, self.sampling, self._cuda, waits=self._waits)
            self.lanes.append(made)
            self._page.tell(State(SERVING, len(self.lanes), self.sampling.device_bytes))
            return made

    def close(self, why: str) -> None:
        """Say goodbye. Threads that are in the middle of an execution end it in peace."""
        if self.off:
            return
        self.off = why
        try:
            for lane in self.lanes:
                lane.closed = True
                lane.write_deferred()
                if lane in self.free:
                    lane.harvest()
            self.sampling.close()
            self._page.tell(State(LEAVING, len(self.lanes), 0))
        except Exception:  # noqa: BLE001 - the process is ending, or goes on without us
            _log.debug("closing the probe", exc_info=True)
        self._folder.let_go()

    def forked(self) -> None:
        """In a child: everything belongs to the parent, and CUDA does not live on."""
        self.off = "forked"
        self._folder.let_go()
        for lane in self.lanes:
            lane.detach()


class _Holder:
    """A thread's lane; when the thread ends, another one may have it."""

    __slots__ = ("_free", "lane")

    def __init__(self, lane: Lane | None, free: deque[Lane]) -> None:
        self.lane = lane
        self._free = free

    def __del__(self) -> None:
        if self.lane is not None:
            self.lane.leave()
            self._free.append(self.lane)


class Probe:
    """Watches one engine. All threads may share it."""

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
        trt: Any = None,
        cuda: Cuda | None = None,
    ) -> None:
        """Never raises for what it finds; takes no device memory until an execution is sampled.

        `plan` names the engine's file, which is then read once for its hash: builds are told apart by it. `instance` is
        this process's name for the service (default: host and process id). `folder` is shared with the agent. `rate` is
        the share of executions to sample while no agent says otherwise. `waits` says that the caller's block ends only
        when the results are there; without, CUDA events time it, and host and GPU go on side by side. `trt` and `cuda`
        stand for the tensorrt module and the driver (tests).
        """
        self.problem = ""
        self._unwatched = 0
        self._watch: _Watch | None = None
        self._local = threading.local()
        try:
            host = socket.gethostname()
            self._watch = _Watch(
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
                    "trt": trt or _tensorrt(),
                    "cuda": cuda or _driver(),
                },
            )
            weakref.finalize(self, self._watch.close, "closed")
            _watches.add(self._watch)
            _register_fork()
        except Exception as error:  # noqa: BLE001 - a runtime serves with or without us
            self.problem = f"executions are not watched: {error!r}"
            _log.warning("%s", self.problem, exc_info=_log.isEnabledFor(logging.DEBUG))

    def execution(
        self,
        context: Any,
        stream: Any,
        shapes: Shapes | None = None,
        *,
        graph: bool = False,
        request_id: int = 0,
    ) -> Run:
        """A `with` block around one execution: enqueue on `run.context`, and wait in it unless `waits` is off.

        `shapes` are those of the inputs by name; without them the context is asked, which costs some microseconds.
        `graph` says that a captured graph is launched unless `run.sampled`. Capture graphs outside of such a block.
        """
        try:
            lane: Lane | None = self._local.lane
        except AttributeError:
            lane = self._join()
        if lane is None or lane.closed:
            self._unwatched += 1
            lane = None
        else:
            try:
                seen = lane.seen.get(id(context))
                if seen is not None and lane.orders[GENERATION] == lane.page.generation:
                    known: Known | None = seen.known
                    if shapes != seen.known.shapes:
                        known = lane.other(seen, shapes)
                    if (
                        known is not None
                        and known.look.stratum.due is False
                        and (
                            lane.one_profile
                            or context.active_optimization_profile
                            == known.look.profile
                            == seen.known.look.profile
                        )
                    ):
                        since_change = 0 if known is not seen.known else seen.since_change + 1
                        seen.known, seen.since_change = known, since_change
                        return Run(
                            lane, context, known.look, since_change, IN_GRAPH if graph else 0, request_id
                        )
            except Exception:  # noqa: BLE001 - shapes that cannot be compared, say
                lane.fail()
        return FullRun(lane, context, stream, shapes, IN_GRAPH if graph else 0, request_id)

    def counters(self) -> dict[str, int]:
        """`executions`, `unwatched`, and what else was counted since the start, summed over threads."""
        totals = dict.fromkeys(COUNTERS, 0)
        lanes = list(self._watch.lanes) if self._watch is not None and self._watch.off != "forked" else []
        for lane in lanes:
            for name, value in lane.ring.counters().items():
                totals[name] += value
        executions = sum(lane.ring.position + len(lane.deferred) for lane in lanes)
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
        self._local.holder = _Holder(lane, watch.free if watch is not None else deque())
        self._local.lane = lane
        return lane


_watches: weakref.WeakSet[_Watch] = weakref.WeakSet()
_counted = 0
_fork_registered = False


def _next_number() -> int:
    """Of this probe in its process."""
    global _counted
    _counted += 1
    return _counted - 1


def _register_fork() -> None:
    global _fork_registered
    if not _fork_registered:
        _fork_registered = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for watch in list(_watches):
        watch.forked()


def _tensorrt() -> Any:
    import tensorrt

    return tensorrt


def _driver() -> Cuda:
    from layerwatch.probe.cuda import CudaDriver

    return CudaDriver()
