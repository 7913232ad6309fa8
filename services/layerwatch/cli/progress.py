"""How far a long job is: a bar on a terminal, a plain line every 5 s otherwise; on stderr, results go to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_LINE_EVERY_S = 5.0


@final
class Progress:
    """Called with what is done so far, in `unit`; a `total` of None is not known."""

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str = "executions",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._clock = clock
        self._told_s = clock()
        self._bar: Bar | None = None
        if self._stream.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Bar(*columns, console=Console(file=self._stream), transient=True)
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._clock() - self._told_s >= _LINE_EVERY_S:
            self._told_s = self._clock()
            of = "" if self._total is None else f" of {self._total}"
            print(f"{self._what}: {done}{of} {self._unit}", file=self._stream, flush=True)
