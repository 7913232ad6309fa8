"""One execution, as the caller sees it: a `with` block.

Between two requests, after hundreds of kernel launches, little of ours is in the CPU's caches: measured beside an H200, what
takes 5 us in a loop takes 8 to 20. So the usual execution, one more of the same shape that is not sampled, touches as little
as possible (`Probe.execution` and `Run`); `FullRun` and `lane` have all other cases, and what can be done while the GPU computes.
"""

from __future__ import annotations

import logging
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, final

from layerwatch.probe.sampler import Stratum

if TYPE_CHECKING:
    from typing_extensions import Self

    from layerwatch.probe.known_shapes import Shapes
    from layerwatch.probe.lane import Lane
    from layerwatch.probe.twin import Twin

_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What the executions of a context have in common until its shape or profile changes."""

    profile: int
    shape: bytes  # as in a record
    number: int  # of the context
    stratum: Stratum


#: Of an execution that nobody has looked at yet.
NO_LOOK = Look(0, b"", 0, Stratum())


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
    end_ns: int
    start_ns: int

    def __init__(
        self, lane: Lane | None, context: Any, look: Look, since_change: int, flags: int, request_id: int
    ) -> None:
        self.lane = lane
        self.context = context
        self.look = look
        self.since_change = since_change
        self.flags = flags
        self.request_id = request_id
        self.launched_ns = 0

    def launched(self) -> None:
        """Say that the work is enqueued, and that from here on the host only waits.

        Optional. It tells the host's part, and the probe does its own work then, while the GPU does its: without, that
        is done when the results are there, and adds to the latency.
        """
        self.launched_ns = perf_counter_ns()
        lane = self.lane
        if lane is not None:
            try:
                lane.meanwhile(self)
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
        if lane.is_busy and self.launched_ns and kind is None and self.twin is None:
            self.context = None  # its owner may want it destroyed
            lane.deferred.append(self)
            return
        try:
            lane.end(self, kind is not None)
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            self._defect(lane)

    def _defect(self, lane: Lane) -> None:
        self.lane = None
        try:
            lane.abandon(self)
            _log.warning("the probe failed at an execution, which itself goes on", exc_info=True)
        except Exception:  # noqa: BLE001 - not even this
            return


@final
class FullRun(Run):
    """Any execution but the usual one, and one that is not watched (`lane` None)."""

    __slots__ = ("events", "overhead_ns", "sampled", "shapes", "stream", "twin")

    # set by the lane, as far as they are needed
    events: tuple[int, int]
    overhead_ns: int

    def __init__(
        self,
        lane: Lane | None,
        context: Any,
        stream: Any,
        shapes: Shapes | None,
        flags: int,
        request_id: int,
    ) -> None:
        super().__init__(lane, context, NO_LOOK, 0, flags, request_id)
        self.stream = stream
        self.shapes = shapes
        self.sampled = False
        self.twin = None

    def __enter__(self) -> Self:
        lane = self.lane
        if lane is not None:
            hot = self.context
            try:
                lane.begin(self)
            except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
                self._defect(lane)
                self.context = hot
        self.start_ns = perf_counter_ns()
        return self
