"""The usual execution: one more on a context and of a shape that were seen before, and surely not due to be sampled.

Between two requests, after hundreds of kernel launches, nothing of ours is in the CPU's caches: what takes 2 us in a loop takes
20 there. So these classes hold all that such an execution touches, and nothing else; `_usual.c` has the same compiled, and is
taken where it was built and `LAYERWATCH_PROBE_COMPILED` is not 0. Everything else is in `FullRun` and `Lane`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from layerwatch.schemas import ring
from layerwatch.schemas.control_page import SAMPLING_OFFSET
from layerwatch.schemas.profiles import IN_GRAPH
from layerwatch.schemas.ring import UNKNOWN_NS

if TYPE_CHECKING:
    from typing_extensions import Self

    from layerwatch.probe.page import Page
    from layerwatch.probe.ring_writer import RingWriter
    from layerwatch.probe.twin import Twin

Shapes = Mapping[str, Sequence[int]]

#: Switches the compiled half off.
SWITCH = "LAYERWATCH_PROBE_COMPILED"


class Shape(NamedTuple):
    packed: bytes  # as in a record
    cell: object  # executions of one cell share their samples


class Stratum:
    """One cell of shapes and its budget, as one thread sees it; what the numbers mean is `sampler`'s."""

    __slots__ = ("credit", "free", "passed", "renew_at", "root", "seen", "share", "version")

    def __init__(self) -> None:
        self.free = 0  # so many executions more are surely not due, while `version` is the lane's
        self.passed = 0  # of those, the ones that have come since
        self.version = -1
        self.seen = 0
        self.renew_at = 0
        self.credit = 0.5  # half way to its first sample
        self.root = 0.0
        self.share = 0.0


class Look:
    """What the executions of a context have in common until its shape or profile changes."""

    __slots__ = ("number", "profile", "shape", "shapes", "stratum")

    def __init__(
        self, profile: int, number: int, shape: Shape, stratum: Stratum, shapes: dict[str, Any] | None
    ) -> None:
        """`number` is the context's; `shapes` are the caller's words for it, None where they must be looked at each time."""
        self.profile = profile
        self.number = number
        self.shape = shape
        self.stratum = stratum
        self.shapes = shapes


class Seen:
    """A context as a thread saw it last, and its former looks by shapes."""

    __slots__ = ("look", "others", "since_change")

    def __init__(self, look: Look) -> None:
        self.look = look
        self.since_change = 0
        self.others: dict[object, Look] = {}


class LaneBase:
    """Of one thread at a time."""

    def __init__(self, ring: RingWriter, page: Page, one_profile: bool) -> None:
        self.closed = False
        self.detached = False  # in a forked child: nothing more is written
        self.is_busy = False  # executions follow upon one another
        self.owes = False  # a sampled execution is not written down yet: the next one is not usual
        self.one_profile = one_profile
        self.generation = 0  # of the order on the page that was obeyed last
        self.version = -1  # of the sampler that strata must have
        self.expires_ns = 0  # end of the order, on perf_counter's clock; 0: there is none
        self.last_end_ns = 0
        self.busy_ns = 0  # the next execution begins within so much after the last one where a thread is busy
        self.seen: dict[int, Seen] = {}  # by id of the context
        self._ring = ring
        self._page = page
        self._left: Run | None = None

    @property
    def is_usual(self) -> bool:
        """Whether nothing has come between: the page says what it said at the last look, say."""
        return not self.closed and not self.owes and self._page.ordered == self.generation

    @property
    def has_deferred(self) -> bool:
        return self._left is not None

    def forget(self) -> None:
        """As if no context had been seen."""
        self.seen.clear()

    def write_deferred(self) -> None:
        """Write down what the last execution has left, if it has."""
        run, self._left = self._left, None
        if run is None or self.detached:
            return
        self._ring.write(
            run,
            time_ns() - (perf_counter_ns() - run.end_ns),
            run.end_ns - run.start_ns,
            run.launched_ns - run.start_ns if run.launched_ns else UNKNOWN_NS,
        )

    def leave(self, run: Run) -> None:
        """A usual execution has ended: its record waits where the next one is near."""
        self.write_deferred()
        self._left = run
        self.last_end_ns = run.end_ns
        if self.expires_ns and run.end_ns >= self.expires_ns:
            self.version = -2  # the next execution looks at the page
        if not self.is_busy or not run.launched_ns or self.closed:
            self.write_deferred()

    def end(self, run: Run, failed: bool) -> None:
        raise NotImplementedError

    def fail(self) -> None:
        raise NotImplementedError


class Run:
    """`context` is what to enqueue on: the caller's own, or the profiled twin where `sampled`.

    A captured graph holds the hot context: launch it only where `sampled` is false.
    """

    __slots__ = (
        "context",
        "end_ns",
        "flags",
        "lane",
        "launched_ns",
        "look",
        "request_id",
        "since_change",
        "start_ns",
    )

    sampled: bool = False
    twin: Twin | None = None
    lane: LaneBase | None
    context: Any

    def __init__(
        self, lane: LaneBase | None, context: Any, look: Look, since_change: int, flags: int, request_id: int
    ) -> None:
        self.lane = lane
        self.context = context
        self.look = look
        self.since_change = since_change
        self.flags = flags
        self.request_id = request_id
        self.start_ns = self.launched_ns = self.end_ns = 0

    def launched(self) -> None:
        """Say that the work is enqueued, and that from here on the host only waits.

        Optional. It tells the host's part, and the probe does its own work then, while the GPU does its: without, that
        is done when the results are there, and adds to the latency.
        """
        self.launched_ns = perf_counter_ns()
        lane = self.lane
        if lane is not None:
            try:
                lane.write_deferred()
                lane.is_busy = self.start_ns - lane.last_end_ns < lane.busy_ns
            except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
                lane.fail()

    def __enter__(self) -> Self:
        self.start_ns = perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_ns = perf_counter_ns()
        lane = self.lane
        if lane is None:
            return
        try:
            if kind is not None:
                lane.end(self, True)
            else:
                lane.leave(self)
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            lane.fail()
        self.lane = self.context = None  # its owner may want it destroyed


class ProbeBase:
    """What `Probe.execution` does when it is usual."""

    __slots__ = ("_local",)

    _local: threading.local  # has a `lane` once the thread has one

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
        lane: LaneBase | None = getattr(self._local, "lane", None)
        if type(shapes) is dict and lane is not None and lane.is_usual:
            try:
                run = _usual(lane, context, shapes, IN_GRAPH if graph else 0, request_id)
            except Exception:  # noqa: BLE001 - shapes that cannot be compared, say
                lane.fail()
            else:
                if run is not None:
                    return run
        return self._full_execution(context, stream, shapes, graph=graph, request_id=request_id)

    def _full_execution(
        self,
        context: Any,
        stream: Any,
        shapes: Shapes | None = None,
        *,
        graph: bool = False,
        request_id: int = 0,
    ) -> Run:
        raise NotImplementedError


def _usual(lane: LaneBase, context: Any, shapes: dict[str, Any], flags: int, request_id: int) -> Run | None:
    seen = lane.seen.get(id(context))
    if seen is None:
        return None
    before = look = seen.look
    if shapes != look.shapes:
        try:
            other = seen.others.get(tuple(shapes.items()))
        except TypeError:  # lists
            return None
        if other is None:
            return None
        look = other
    stratum = look.stratum
    if stratum.free <= 0 or stratum.version != lane.version:
        return None
    if type(request_id) is not int or not 0 <= request_id < 2**64:
        return None
    if not lane.one_profile and not (context.active_optimization_profile == look.profile == before.profile):
        return None
    if look is before:
        seen.since_change += 1
    else:
        seen.look, seen.since_change = look, 0
    stratum.free -= 1
    stratum.passed += 1
    return Run(lane, context, look, seen.since_change, flags, request_id)


COMPILED = False
if not TYPE_CHECKING and os.environ.get(SWITCH, "") != "0":
    try:
        from layerwatch.probe import _usual as compiled
    except ImportError:
        pass
    else:
        _LAYOUT = {
            "HEADER_BYTES": ring.HEADER_BYTES,
            "RECORD_BYTES": ring.RECORD_BYTES,
            "WRITTEN_OFFSET": ring.WRITTEN_OFFSET,
            "SHAPE_BYTES": len(ring.encode_dimensions(())),
            "ORDERED_OFFSET": SAMPLING_OFFSET,
            "IN_GRAPH": IN_GRAPH,
        }
        if all(
            getattr(compiled, name, None) == size for name, size in _LAYOUT.items()
        ):  # built from this source
            LaneBase, Look, ProbeBase = compiled.LaneBase, compiled.Look, compiled.ProbeBase
            Run, Seen, Stratum = compiled.Run, compiled.Seen, compiled.Stratum
            COMPILED = True
