"""Any execution but the usual one, and one that is not watched. The usual one is in `usual`."""

from __future__ import annotations

import logging
import operator
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from layerwatch.probe.usual import Look, Run, Shape, Shapes, Stratum

if TYPE_CHECKING:
    from typing_extensions import Self

    from layerwatch.probe.lane import Lane
    from layerwatch.probe.twin import Twin

_log = logging.getLogger(__name__)

#: Of an execution that nobody has looked at yet.
_NO_LOOK = Look(0, 0, Shape(b"", 0), Stratum(), None)


def _number(request_id: Any) -> int:
    """0, which stands for none, where a record has no room for it."""
    try:
        number = operator.index(request_id)
    except TypeError:
        return 0
    return number if 0 <= number < 2**64 else 0


@final
class FullRun(Run):
    """`lane` None: not watched."""

    __slots__ = ("events", "overhead_ns", "sampled", "shapes", "stream", "twin")

    # set by the lane, as far as they are needed
    events: tuple[int, int]
    overhead_ns: int
    lane: Lane | None
    sampled: bool
    twin: Twin | None

    def __init__(
        self, lane: Lane | None, context: Any, stream: Any, shapes: Shapes | None, flags: int, request_id: int
    ) -> None:
        super().__init__(lane, context, _NO_LOOK, 0, flags, _number(request_id))
        self.stream = stream
        self.shapes = shapes
        self.sampled = False
        self.twin = None

    def launched(self) -> None:
        super().launched()
        lane = self.lane
        if lane is not None and lane.owes:
            try:
                lane.pay()
            except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
                lane.fail()

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_ns = perf_counter_ns()
        lane = self.lane
        if lane is None:
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
