"""Turns Ctrl-C and SIGTERM into a question that a loop can ask."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import final


@final
class Stop:
    """While the `with` block runs, the first signal is only remembered; a second one acts as it would have."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __call__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it; 0 when none came."""
        return 0 if self._signal is None else 128 + self._signal

    def __enter__(self) -> Stop:
        for number in self._former:
            signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
