"""Keeps programs running: what ends is started again, with growing pauses while it keeps ending."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from layerwatch.schemas.errors import LayerwatchError, Unavailable

#: Pauses before a new start, in s: the first, doubled up to the last, anew after a run of this length.
FIRST_PAUSE_S, LAST_PAUSE_S, LONG_RUN_S = 0.5, 10.0, 30.0
_LOOK_EVERY_S = 0.1

_log = logging.getLogger(__name__)


class Program(Protocol):
    """What can be supervised: hosting.child.Child, broker.local.LocalBroker."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def launch(self) -> None: ...
    def ready(self) -> bool:
        """Raises Unavailable saying why when the program has ended."""
        ...

    def stop(self) -> None: ...
    def kill(self) -> None: ...


class _Watched:
    """A program with its restarts."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self._pause_s = FIRST_PAUSE_S
        self._started_s = time.monotonic()
        self._again_s: float | None = None

    def launch(self) -> None:
        self.starts += 1
        self._again_s = None
        self._started_s = time.monotonic()
        self.program.launch()

    def look(self) -> None:
        """Notice that it has ended, or start it again when it is time."""
        now_s = time.monotonic()
        if self._again_s is None:
            if self.program.pid is None:
                self._schedule(now_s, self._why())
        elif now_s >= self._again_s:
            try:
                self.launch()
            except (LayerwatchError, OSError) as error:
                self._schedule(now_s, str(error))

    def _why(self) -> str:
        try:
            self.program.ready()
        except Unavailable as error:
            return str(error)
        return f"{self.program.name} ended"

    def _schedule(self, now_s: float, why: str) -> None:
        if now_s - self._started_s >= LONG_RUN_S:
            self._pause_s = FIRST_PAUSE_S
        self._again_s = now_s + self._pause_s
        _log.warning("%s; starting %s again in %.1f s", why, self.program.name, self._pause_s)
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)


class Supervisor:
    """Runs programs from `start` to `stop`; one thread watches them all."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._watched = [_Watched(program) for program in programs]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def pids(self) -> dict[str, int | None]:
        """Process id by name; None while a program waits to be started again."""
        return {watched.program.name: watched.program.pid for watched in self._watched}

    @property
    def starts(self) -> dict[str, int]:
        """How often each program was started, by name."""
        return {watched.program.name: watched.starts for watched in self._watched}

    def start(self) -> Supervisor:
        """Launch all and watch them; what the first launch raises is raised here and nothing is left running."""
        try:
            for watched in self._watched:
                watched.launch()
        except BaseException:
            self.kill()
            raise
        self._thread.start()
        return self

    def unready(self) -> list[str]:
        """Names of the programs that are not ready."""
        return [watched.program.name for watched in self._watched if not _is_ready(watched.program)]

    def wait_ready(self, timeout_s: float) -> None:
        """Return once all are ready at the same time; raises Unavailable naming those that are not."""
        deadline = time.monotonic() + timeout_s
        while late := self.unready():
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"not ready within {timeout_s:g} s: {', '.join(late)}; what they log says why"
                )
            time.sleep(_LOOK_EVERY_S)

    def stop(self) -> None:
        """Stop all at the same time, each by force after its deadline."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        programs = [watched.program for watched in self._watched]
        with ThreadPoolExecutor(max(1, len(programs))) as pool:
            list(pool.map(lambda program: program.stop(), programs))

    def kill(self) -> None:
        """Kill all at once, and start none again."""
        self._stopping.set()
        for watched in self._watched:
            watched.program.kill()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            for watched in self._watched:
                watched.look()


def _is_ready(program: Program) -> bool:
    with suppress(Unavailable):
        return program.ready()
    return False
