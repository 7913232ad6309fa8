"""What one thread of the runtime does at each execution: time it, see whether it is due to be sampled, write it down."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from layerwatch.probe.interfaces import Cuda
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.sampler import Sampler, Stratum
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, SWITCHED_PROFILE
from layerwatch.schemas.ring import UNKNOWN_NS, encode_dimensions

if TYPE_CHECKING:
    from layerwatch.probe.run import Run
    from layerwatch.probe.sampling import Sampling

Shapes = Mapping[str, Sequence[int]]

#: Shapes and contexts that a thread remembers; beyond, it begins anew.
_MAX_SHAPES = 4096
_MAX_CONTEXTS = 256
#: Executions of a thread whose end has not come yet, where the caller does not wait.
_MAX_PENDING = 64


class _Shape(NamedTuple):
    packed: bytes  # as in a record
    cell: object  # executions of one cell share their samples


class _Seen:
    """A context as this thread saw it last."""

    __slots__ = ("number", "profile", "shape", "since_change", "stratum")

    def __init__(self, number: int, stratum: Stratum) -> None:
        self.number = number
        self.stratum = stratum
        self.shape: _Shape | None = None
        self.profile = -1
        self.since_change = 0


class _Pending(NamedTuple):
    run: Run
    start: int
    stop: int
    host_ns: int


class Lane:
    """Of one thread at a time. Its methods raise; `run.Run` sees to it that nothing reaches the caller."""

    def __init__(self, ring: RingWriter, sampling: Sampling, cuda: Cuda, *, waits: bool) -> None:
        self.ring = ring
        self._sampling = sampling
        self._page = sampling.page
        self._cuda = cuda
        self._waits = waits
        self._sampler = Sampler()
        self._shapes: dict[object, _Shape] = {}
        self._seen: dict[int, _Seen] = {}
        self._contexts = 0
        self._pending: deque[_Pending] = deque()
        self._events: list[int] = []
        self._made_events = 0
        self._inputs = sampling.facts.inputs
        self._one_profile = sampling.facts.profiles == 1

    def begin(self, run: Run) -> None:
        """Before the caller's block: `run.context` becomes the twin's where the execution is sampled."""
        if self._pending:
            self.harvest()
        context = run.context
        shape = self._shape(run.shapes, context)
        profile = 0 if self._one_profile else int(context.active_optimization_profile)
        seen = self._seen.get(id(context))
        if seen is None:
            seen = self._meet(id(context), shape, profile)
        if shape is seen.shape and profile == seen.profile:
            seen.since_change += 1
        else:
            if profile != seen.profile and seen.profile >= 0:
                run.flags |= SWITCHED_PROFILE
            seen.shape, seen.profile, seen.since_change = shape, profile, 0
            seen.stratum = self._sampler.stratum((shape.cell, profile))
        run.profile = profile
        run.shape = shape.packed
        run.number = seen.number
        run.since_change = seen.since_change
        if self._sampler.is_due(seen.stratum, self._page.rate(time.perf_counter_ns())):
            self._sampling.claim(run, self.ring)
        if run.twin is not None:
            run.flags |= ON_TWIN
        elif run.in_graph:
            run.flags |= IN_GRAPH
        if not self._waits:
            run.events = (0, 0)
            self._start_event(run)

    def end(self, run: Run, end_ns: int, failed: bool) -> None:
        """After the caller's block."""
        if failed:
            self.ring.count("failed")
            self._let_go(run)
            if not self._waits:
                self._events += [event for event in run.events if event]
        elif not self._waits:
            self._stop_event(run, end_ns)
        else:
            host_ns = run.launched_ns - run.start_ns if run.launched_ns else UNKNOWN_NS
            if run.twin is not None:
                self._sampling.finish(run, self.ring, self._cuda)
            self.ring.write(run, time.time_ns(), end_ns - run.start_ns, host_ns)

    def abandon(self, run: Run) -> None:
        """`begin` has failed: let the caller run as if there were no probe."""
        self.ring.count("errors")
        self._let_go(run)

    def detach(self) -> None:
        """In a forked child: forget what belongs to the parent, so that a block that began before ends quietly."""
        self.ring.detach()
        self._pending.clear()

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

    def _shape(self, shapes: Shapes | None, context: Any) -> _Shape:
        if shapes is None:
            shapes = {name: tuple(context.get_tensor_shape(name)) for name, _ in self._known()}
        try:
            key: object = tuple(shapes.items())
            found = self._shapes.get(key)
        except TypeError:  # lists
            key = tuple((name, tuple(dims)) for name, dims in shapes.items())
            found = self._shapes.get(key)
        if found is None:
            found = self._learn(key, shapes)
        return found

    def _known(self) -> list[tuple[str, int]]:
        return [(known.name, known.rank) for known in self._inputs]

    def _learn(self, key: object, shapes: Shapes) -> _Shape:
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        dimensions: list[int] = []
        for name, rank in self._known():
            dims = [int(d) for d in shapes.get(name, ())]
            dimensions += (dims + [-1] * rank)[:rank]
        # half octaves: among hundreds of lengths each would be too rare to have a share of its own
        cell = tuple((d * d).bit_length() if d > 0 else d for d in dimensions)
        made = self._shapes[key] = _Shape(encode_dimensions(tuple(dimensions)), cell)
        return made

    def _meet(self, key: int, shape: _Shape, profile: int) -> _Seen:
        if len(self._seen) >= _MAX_CONTEXTS:
            self._seen.clear()
        made = self._seen[key] = _Seen(self._contexts, self._sampler.stratum((shape.cell, profile)))
        self._contexts += 1
        return made

    def _start_event(self, run: Run) -> None:
        run.stream = int(run.stream)
        if len(self._events) < 2 and self._made_events < 2 * _MAX_PENDING:
            self._events += (self._cuda.new_event(), self._cuda.new_event())
            self._made_events += 2
        if len(self._events) >= 2:
            start, stop = self._events.pop(), self._events.pop()
            self._cuda.record(start, run.stream)
            run.events = (start, stop)

    def _stop_event(self, run: Run, end_ns: int) -> None:
        start, stop = run.events
        if not stop:
            self.ring.count("untimed")
            self._let_go(run)
            return
        self._cuda.record(stop, run.stream)
        self._pending.append(_Pending(run, start, stop, end_ns - run.start_ns))

    def _let_go(self, run: Run) -> None:
        if run.twin is not None:
            run.twin.release()
            run.twin = None
            run.sampled = False
