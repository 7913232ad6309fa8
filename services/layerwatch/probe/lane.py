"""What one thread of the runtime does at each execution: time it, see whether it is due to be sampled, write it down.

For the usual execution, one more of the same shape that is not sampled, `Probe.execution` has written out what `begin` does.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from layerwatch.probe.interfaces import Cuda
from layerwatch.probe.known_shapes import Seen, Shape, ShapeBook, Shapes
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.run import FullRun, Look
from layerwatch.probe.sampler import Sampler, Stratum
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, SWITCHED_PROFILE
from layerwatch.schemas.ring import UNKNOWN_NS

if TYPE_CHECKING:
    from layerwatch.probe.run import Run
    from layerwatch.probe.sampling import Sampling

_log = logging.getLogger(__name__)

#: Contexts that a thread remembers; beyond, it begins anew.
_MAX_CONTEXTS = 256
#: Executions of a thread whose end has not come yet, where the caller does not wait.
_MAX_PENDING = 64
#: A thread whose next execution begins within this time after the last one is busy, and leaves the last record to it (ns).
_BUSY_NS = 1_000_000


class _Pending(NamedTuple):
    run: FullRun
    start: int
    stop: int
    host_ns: int


class Lane:
    """Of one thread at a time. Its methods raise; `run.Run` sees to it that nothing reaches the caller."""

    def __init__(self, ring: RingWriter, sampling: Sampling, cuda: Cuda, *, waits: bool) -> None:
        self.ring = ring
        self.page = sampling.page
        self.orders = sampling.page.words
        self.closed = False
        self.seen: dict[int, Seen] = {}
        self.deferred: deque[Run] = deque()  # at most one
        self.is_busy = False  # executions follow upon one another
        self._sampling = sampling
        self._cuda = cuda
        self._waits = waits
        self._sampler = Sampler()
        self._contexts = 0
        self._settled_rate = 0.0
        self._last_end_ns = 0
        self._pending: deque[_Pending] = deque()
        self._events: list[int] = []
        self._made_events = 0
        self._book = ShapeBook(sampling.facts.inputs)
        self.one_profile = sampling.facts.profiles == 1

    def begin(self, run: FullRun) -> None:
        """Before the caller's block: `run.context` becomes the twin's where the execution is sampled."""
        if self._pending:
            self.harvest()
        context = run.context
        shape = self._book.shape(run.shapes, context)
        profile = 0 if self.one_profile else int(context.active_optimization_profile)
        seen = self.seen.get(id(context))
        if seen is not None and shape is seen.known.shape and profile == seen.known.look.profile:
            seen.since_change += 1
        else:
            if seen is not None and profile != seen.known.look.profile:
                run.flags |= SWITCHED_PROFILE
            seen = self._meet(run, seen, shape, profile, run.shapes)
        run.look = seen.known.look
        run.since_change = seen.since_change
        if self._is_due(run.look.stratum):
            self._sampling.claim(run, self.ring)
        if run.twin is not None:
            run.flags = run.flags & ~IN_GRAPH | ON_TWIN
        if not self._waits:
            run.events = (0, 0)
            self._start_event(run)

    def meanwhile(self, run: Run) -> None:
        """The GPU is at work: do what need not be done later. The record of a busy thread waits until the next time."""
        if self.deferred:
            self.write_deferred()
        if self._waits and run.twin is None:
            self._settle(run.look.stratum)
            self.is_busy = run.start_ns - self._last_end_ns < _BUSY_NS

    def end(self, run: Run, failed: bool) -> None:
        """After the caller's block."""
        if self.deferred:
            self.write_deferred()
        if failed:
            self.ring.count("failed")
            self._let_go(run)
            if isinstance(run, FullRun) and not self._waits:
                self._events += [event for event in run.events if event]
        elif isinstance(run, FullRun) and not self._waits:
            self._stop_event(run)
        else:
            if not run.launched_ns or run.twin is not None:
                self._settle(run.look.stratum)
            if isinstance(run, FullRun) and run.twin is not None:
                self._sampling.finish(run, self.ring, self._cuda)
            self._write(run)

    def write_deferred(self) -> None:
        """Write down what the last execution has left, if it has."""
        try:
            run = self.deferred.popleft()
        except IndexError:
            return
        self._write(run)

    def leave(self) -> None:
        """Its thread ends."""
        try:
            self.write_deferred()
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            self.fail()

    def abandon(self, run: Run) -> None:
        """`begin` or `end` has failed: let the caller run as if there were no probe."""
        self.ring.count("errors")
        self.seen.clear()
        self._let_go(run)

    def fail(self) -> None:
        """Something else has failed, and the execution goes on."""
        try:
            self.seen.clear()
            self.ring.count("errors")
            _log.warning("the probe failed beside an execution, which itself goes on", exc_info=True)
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            return

    def detach(self) -> None:
        """In a forked child: forget what belongs to the parent, so that a block that began before ends quietly."""
        self.closed = True
        self.ring.detach()
        self._pending.clear()
        self.deferred.clear()

    def harvest(self) -> None:
        """Write down those executions of a caller who does not wait that have ended since."""
        while self._pending and self._cuda.is_done(self._pending[0].stop):
            run, start, stop, host_ns = self._pending.popleft()
            try:
                elapsed_ms = self._cuda.elapsed_ms(start, stop)
            finally:
                self._events += (start, stop)
                if run.twin is not None:
                    self._sampling.finish(run, self.ring, None)
            self.ring.write(run, time.time_ns(), max(1, int(elapsed_ms * 1e6)), host_ns)

    def _write(self, run: Run) -> None:
        end_ns, launched_ns = run.end_ns, run.launched_ns
        self._last_end_ns = end_ns
        host_ns = launched_ns - run.start_ns if launched_ns else UNKNOWN_NS
        self.ring.write(
            run, time.time_ns() - (time.perf_counter_ns() - end_ns), end_ns - run.start_ns, host_ns
        )

    def _is_due(self, stratum: Stratum) -> bool:
        """Whether to sample this execution: as settled after the last one, unless another rate holds since."""
        due, rate = stratum.due, self.page.rate(time.perf_counter_ns())
        if due is None or rate != self._settled_rate:
            due = self._sampler.is_due(stratum, rate)
        stratum.due = None
        return due

    def _settle(self, stratum: Stratum) -> None:
        """Decide about the next execution of this shape."""
        self._settled_rate = rate = self.page.rate(time.perf_counter_ns())
        stratum.due = self._sampler.is_due(stratum, rate)

    def _meet(self, run: Run, seen: Seen | None, shape: Shape, profile: int, shapes: Shapes | None) -> Seen:
        """A context that is new, or has another shape or profile than before."""
        if seen is not None:
            number = seen.known.look.number
        else:
            if len(self.seen) >= _MAX_CONTEXTS:
                self.seen.clear()
            number, self._contexts = self._contexts, self._contexts + 1
            seen = self.seen[id(run.context)] = Seen()
        stratum = self._sampler.stratum((shape.cell, profile))
        seen.now(Look(profile, shape.packed, number, stratum), shape, shapes if self._waits else None)
        return seen

    def _start_event(self, run: FullRun) -> None:
        run.stream = int(run.stream)
        if len(self._events) < 2 and self._made_events < 2 * _MAX_PENDING:
            self._events += (self._cuda.new_event(), self._cuda.new_event())
            self._made_events += 2
        if len(self._events) >= 2:
            start, stop = self._events.pop(), self._events.pop()
            self._cuda.record(start, run.stream)
            run.events = (start, stop)

    def _stop_event(self, run: FullRun) -> None:
        start, stop = run.events
        if not stop:
            self.ring.count("untimed")
            self._let_go(run)
            return
        self._cuda.record(stop, run.stream)
        self._pending.append(_Pending(run, start, stop, run.end_ns - run.start_ns))

    def _let_go(self, run: Run) -> None:
        if isinstance(run, FullRun) and run.twin is not None:
            run.twin.release()
            run.twin = None
            run.sampled = False
