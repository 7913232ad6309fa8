"""Plays event time at a chosen speed of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Longest sleep in one piece: how soon a request to stop is heard, in seconds.
_SLICE_S = 0.1


class Pace:
    """Holds back what is not due yet. `speed` is event seconds a wall second; infinity waits for nothing.

    The first `wait` starts the clock at `start_s` of event time.
    """

    def __init__(
        self,
        speed: float,
        start_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._speed = speed
        self._start_s = start_s
        self._clock = clock
        self._sleep = sleep
        self._began_s: float | None = None

    def wait(self, event_s: float, stop: Callable[[], bool]) -> bool:
        """Wait until `event_s` is due, at once if it was; False when asked to stop meanwhile."""
        if self._began_s is None:
            self._began_s = self._clock()
        due_s = self._began_s + (event_s - self._start_s) / self._speed
        while not stop():
            left_s = due_s - self._clock()
            if left_s <= 0:
                return True
            self._sleep(min(left_s, _SLICE_S))
        return False
