"""One execution, as the caller sees it: a `with` block."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from layerwatch.probe.lane import Lane, Shapes
    from layerwatch.probe.twin import Twin

_log = logging.getLogger(__name__)


@final
class Run:
    """`context` is what to enqueue on: the caller's own, or the profiled twin where `sampled`.

    A captured graph holds the hot context: launch it only where `sampled` is false.
    """

    __slots__ = (
        "context",
        "events",
        "flags",
        "in_graph",
        "lane",
        "launched_ns",
        "number",
        "overhead_ns",
        "profile",
        "request_id",
        "sampled",
        "shape",
        "shapes",
        "since_change",
        "start_ns",
        "stream",
        "twin",
    )

    # set by the lane, as far as they are needed
    events: tuple[int, int]
    number: int
    overhead_ns: int
    profile: int
    shape: bytes
    since_change: int
    start_ns: int
    twin: Twin | None

    def __init__(
        self,
        lane: Lane | None,
        context: Any,
        stream: Any,
        shapes: Shapes | None,
        in_graph: bool,
        request_id: int,
    ) -> None:
        self.lane = lane
        self.context = context
        self.stream = stream
        self.shapes = shapes
        self.in_graph = in_graph
        self.request_id = request_id
        self.sampled = False
        self.twin = None
        self.flags = self.launched_ns = 0

    def launched(self) -> None:
        """Say that the work is enqueued: from here on the host only waits. Optional; it tells the host's part."""
        self.launched_ns = time.perf_counter_ns()

    def __enter__(self) -> Run:
        lane = self.lane
        if lane is not None:
            hot = self.context
            try:
                lane.begin(self)
            except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
                self._defect(lane)
                self.context = hot
        self.start_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_ns = time.perf_counter_ns()
        lane = self.lane
        if lane is not None:
            try:
                lane.end(self, end_ns, kind is not None)
            except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
                self._defect(lane)

    def _defect(self, lane: Lane) -> None:
        self.lane = None
        try:
            lane.abandon(self)
            _log.warning("the probe failed at an execution, which itself goes on", exc_info=True)
        except Exception:  # noqa: BLE001 - not even this
            return
