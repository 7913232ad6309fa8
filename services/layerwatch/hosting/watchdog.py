"""Ends a process that is stuck. A supervisor starts it again; what it had not finished is delivered again.

A thread of its own, since a hung handler or event loop cannot judge itself: faust's consumer goes on sending heartbeats
while a handler hangs, so no other process would ever take over.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Exit status: "internal software error" of sysexits.h.
STUCK = 70

_CHECK_S = 0.5
#: From the wish to stop until the process ends itself.
_SHUTDOWN_S = 20.0
#: Until the event loop turns for the first time: imports, a first join of the group.
_START_S = 60.0


class Watchdog:
    """Told of progress by the process; ends it when there is none for `hang_s`.

    `end` and `clock` (monotonic seconds) are replaced in tests.
    """

    def __init__(
        self,
        hang_s: float,
        *,
        end: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hang_s = hang_s
        self._end = end
        self._clock = clock
        self._started_s = clock()
        self._ticked_s: float | None = None
        self._busy_since_s: dict[str, float] = {}
        self._stopping_since_s: float | None = None
        self._behind_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._started_s = self._clock()
        self._thread.start()

    def tick(self) -> None:
        """The event loop turns."""
        self._ticked_s = self._clock()

    def begin(self, handler: str) -> None:
        """A handler has begun on a record."""
        self._busy_since_s[handler] = self._clock()

    def done(self, handler: str) -> None:
        """It has ended: that is progress, though none of another handler."""
        self._busy_since_s.pop(handler, None)
        self._behind_since_s = None

    def behind(self, lagging: bool) -> None:
        """Whether there are records to process; asked to be told again and again."""
        if not lagging:
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = self._clock()

    def stopping(self) -> None:
        """The process has been asked to end."""
        if self._stopping_since_s is None:
            self._stopping_since_s = self._clock()

    def problem(self) -> str | None:
        """What is wrong, None while all is well."""
        now_s = self._clock()

        def lasts(since_s: float | None, limit_s: float) -> bool:
            return since_s is not None and now_s - since_s > limit_s

        if lasts(self._stopping_since_s, _SHUTDOWN_S):
            return f"not stopped within {_SHUTDOWN_S:.0f} s"
        if lasts(min(self._busy_since_s.values(), default=None), self._hang_s):
            return f"one record has been in work for more than {self._hang_s:.0f} s"
        if self._ticked_s is None and lasts(self._started_s, max(self._hang_s, _START_S)):
            return "the event loop has not begun to turn"
        if lasts(self._ticked_s, self._hang_s):
            return f"the event loop has not turned for {self._hang_s:.0f} s"
        if lasts(self._behind_since_s, 2 * self._hang_s):
            return f"records wait, and none has been processed for {2 * self._hang_s:.0f} s"
        return None

    def abort(self, why: str) -> None:
        """End the process now."""
        log.critical("ending the process: %s", why)
        logging.shutdown()
        self._end(STUCK)

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_S)
            problem = self.problem()
            if problem is not None:
                self.abort(problem)
                return
