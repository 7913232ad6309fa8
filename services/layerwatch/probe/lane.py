"""What one thread of the runtime does at each execution that is not the usual one (`usual`): time it, see whether it is due
to be sampled, write it down.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from layerwatch.probe.interfaces import Cuda
from layerwatch.probe.known_shapes import ShapeBook, kept, remember
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.run import FullRun
from layerwatch.probe.sampler import Sampler
from layerwatch.probe.usual import LaneBase, Look, Run, Seen, Shape, Stratum
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, SWITCHED_PROFILE
from layerwatch.schemas.ring import UNKNOWN_NS

if TYPE_CHECKING:
    from layerwatch.probe.sampling import Sampling

_log = logging.getLogger(__name__)

#: Contexts that a thread remembers; beyond, it begins anew.
_MAX_CONTEXTS = 256
#: A thread whose next execution begins within this time after the last one is busy, and leaves the last record to it (ns).
_BUSY_NS = 1_000_000
#: Where the GPU was done before the layers were fetched beside it, a thread fetches so many at once before it tries again.
_AT_ONCE = 32
#: Executions of a thread whose end has not come yet, where the caller does not wait.
_MAX_PENDING = 64


class _Pending(NamedTuple):
    run: FullRun
    start: int
    stop: int
    host_ns: int


class Lane(LaneBase):
    """Of one thread at a time. Its methods raise; `run.FullRun` sees to it that nothing reaches the caller."""

    def __init__(self, ring: RingWriter, sampling: Sampling, cuda: Cuda, *, waits: bool) -> None:
        super().__init__(ring, sampling.page, sampling.facts.profiles == 1)
        self.busy_ns = _BUSY_NS
        self.ring = ring
        self._page = sampling.page
        self._sampling = sampling
        self._cuda = cuda
        self._waits = waits
        self._sampler = Sampler()
        self._contexts = 0
        self._owed: FullRun | None = None
        self._roams = False  # from stream to stream: what is owed could not be paid
        self._at_once = 0  # so many more
        self._pending: deque[_Pending] = deque()
        self._events: list[int] = []
        self._made_events = 0
        self._book = ShapeBook(sampling.facts.inputs)

    def begin(self, run: FullRun) -> None:
        """Before the caller's block: `run.context` becomes the twin's where the execution is sampled."""
        if self.owes and not self._may_pay(run):
            self._roams = True
            self.forgo()
        if self._pending:
            self.harvest()
        context = run.context
        shape = self._book.shape(run.shapes, context)
        profile = 0 if self.one_profile else int(context.active_optimization_profile)
        seen = self.seen.get(id(context))
        if seen is not None and shape is seen.look.shape and profile == seen.look.profile:
            seen.since_change += 1
        else:
            if seen is not None and profile != seen.look.profile:
                run.flags |= SWITCHED_PROFILE
            seen = self._meet(run, seen, shape, profile)
        run.look = seen.look
        run.since_change = seen.since_change
        if self._is_due(run.look.stratum):
            if self.owes:
                self.pay()
            self._sampling.claim(run, self.ring)
        if run.twin is not None:
            run.flags = run.flags & ~IN_GRAPH | ON_TWIN
        if not self._waits:
            run.events = (0, 0)
            self._start_event(run)

    def end(self, run: Run, failed: bool) -> None:
        """After the caller's block."""
        self.write_deferred()
        if self.owes:
            if self._may_pay(run):
                self.pay()
            else:
                self.forgo()
        if failed:
            self.ring.count("failed")
            self._let_go(run)
            if isinstance(run, FullRun) and not self._waits:
                self._events += [event for event in run.events if event]
        elif isinstance(run, FullRun) and not self._waits:
            self._stop_event(run)
        else:
            self.last_end_ns = run.end_ns
            if isinstance(run, FullRun) and run.twin is not None:
                if self._may_owe(run):
                    self._owed, self.owes = run, True
                    return
                self._sampling.finish(run, self.ring, self._cuda)
            self._write(run)

    def _may_pay(self, run: Run) -> bool:
        """Whether the stream of what is owed lives on, being this execution's too: TensorRT must not touch one that is gone."""
        return self._owed is not None and isinstance(run, FullRun) and int(run.stream) == self._owed.stream

    def pay(self) -> None:
        """Fetch, send and write down what a sampled execution has left, best while the GPU is at the next one of its stream."""
        run, self._owed, self.owes = self._owed, None, False
        if run is not None:
            beside = not self._cuda.is_idle(run.stream)
            self._sampling.finish(run, self.ring, None if beside else self._cuda)
            self._write(run)
            if beside and self._cuda.is_idle(run.stream):
                self._at_once = _AT_ONCE

    def forgo(self) -> None:
        """Write down what there is to be written, without the layers that were not fetched yet."""
        self.write_deferred()
        run, self._owed, self.owes = self._owed, None, False
        if run is not None:
            self.ring.count("not_reported")
            self._let_go(run)
            self._write(run)

    def retire(self) -> None:
        """Its thread ends."""
        try:
            self.forgo()
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            self.fail()

    def abandon(self, run: Run) -> None:
        """`begin` or `end` has failed: let the caller run as if there were no probe."""
        self.ring.count("errors")
        self.forget()
        self._let_go(run)

    def fail(self) -> None:
        """Something else has failed, and the execution goes on."""
        try:
            self.forget()
            self.ring.count("errors")
            _log.warning("the probe failed beside an execution, which itself goes on", exc_info=True)
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            return

    def detach(self) -> None:
        """In a forked child: forget what belongs to the parent, so that a block that began before ends quietly."""
        self.closed = self.detached = True
        self.ring.detach()
        self._pending.clear()
        self._owed, self.owes = None, False

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
        host_ns = launched_ns - run.start_ns if launched_ns else UNKNOWN_NS
        self.ring.write(
            run, time.time_ns() - (time.perf_counter_ns() - end_ns), end_ns - run.start_ns, host_ns
        )

    def _is_due(self, stratum: Stratum) -> bool:
        """Whether to sample this execution."""
        rate = self._page.rate(time.perf_counter_ns())
        due = self._sampler.is_due(stratum, rate)
        self.generation = self._page.generation
        self.expires_ns = self._page.expires_ns
        self.version = self._sampler.version
        return due

    def _meet(self, run: FullRun, seen: Seen | None, shape: Shape, profile: int) -> Seen:
        """A context that is new, or has another shape or profile than before."""
        if seen is not None:
            number = seen.look.number
        else:
            if len(self.seen) >= _MAX_CONTEXTS:
                self.forget()
            number, self._contexts = self._contexts, self._contexts + 1
        stratum = self._sampler.stratum((shape.cell, profile))
        look = Look(profile, number, shape, stratum, kept(run.shapes) if self._waits else None)
        if seen is None:
            seen = self.seen[id(run.context)] = Seen(look)
        remember(seen, look)
        return seen

    def _may_owe(self, run: FullRun) -> bool:
        """Whether another execution will come soon, and this one is over on the GPU, too: its layers can wait in TensorRT.

        To report them it waits for that execution's events alone, not for what the stream was given since. Beside another
        execution that takes three times as long as at once (8.6 on an H200: 2.3 and 0.7 ms for 440 layers, see
        `Cuda.settle`): nothing is lost where the GPU is busy for longer, and much where it is not.
        """
        soon = bool(run.launched_ns) and self.is_busy and not self.closed and not self._roams
        if self._at_once:
            self._at_once -= 1
            return False
        return soon and self._cuda.is_idle(run.stream)

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
