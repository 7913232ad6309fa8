"""How the reading of the topics comes along: told by its thread, asked by /healthz and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Without progress for so long, the thread counts as stuck.
STUCK_S = 60.0


class Progress:
    """State of one ingest thread; `clock` is a monotonic one in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved_s = clock()
        self._waiting = 0
        self.ready = False

    def moved(self, waiting: int) -> None:
        """Something was stored, or there was nothing to store; `waiting` records are left."""
        self._moved_s = self._clock()
        self._waiting = waiting

    def problem(self) -> str | None:
        """None when healthy, else what is wrong and what to do."""
        still_s = self._clock() - self._moved_s
        if still_s < STUCK_S:
            return None
        return (
            f"nothing was stored for {still_s:.0f} s, {self._waiting} records waited when last seen:"
            " its log says why; stop it and start `layerwatch history` again"
        )
