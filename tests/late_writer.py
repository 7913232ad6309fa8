"""A stream application as a process that hardly ever looks for states to write. Its settings are the environment's.

With the argument `--slow-hand-over` it also takes very long to take partitions up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from layerwatch.hosting import streams
from layerwatch.hosting.operator import Outgoing
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.stream_metrics import StreamMetrics
from layerwatch.hosting.watchdog import Watchdog
from layerwatch.schemas.topics import SIGNALS

LOOKS_EVERY_S = 4.0
SLOW_HAND_OVER, HAND_OVER_S = "--slow-hand-over", 600.0
READY, WRITTEN = "ready\n", "written\n"


class Sum:
    """Its states' tails are written only when they are written whole."""

    name = "late"
    source = SIGNALS
    parts = ("head", "tail")

    async def prepare(self, value: bytes) -> bytes:
        return value

    def key(self, record: bytes) -> bytes:
        return record

    def keys_wanted(self) -> Iterable[bytes]:
        return ()

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> list[bytes]:
        return [parts[part] for part in self.parts if part in parts]

    def fold(self, state: list[bytes], record: bytes) -> list[Outgoing]:
        state.append(record)
        return []

    def dump(self, state: list[bytes], *, whole: bool) -> dict[str, bytes]:
        return {part: b"".join(state) for part in (self.parts if whole else self.parts[:1])}

    def tick(self, state: list[bytes], now_s: float) -> list[Outgoing]:
        return []


class _Telling(streams.StreamApp):
    """Says on stdout when it is ready, and when a state has been written."""

    async def _rebalanced(self, *args: Any, **options: Any) -> None:
        await super()._rebalanced(*args, **options)
        print(READY, end="", flush=True)
        if SLOW_HAND_OVER in sys.argv:
            await asyncio.sleep(HAND_OVER_S)

    async def _write(self, *args: Any, **options: Any) -> None:
        await super()._write(*args, **options)
        print(WRITTEN, end="", flush=True)


def main() -> None:
    streams._SWEEP_S = LOOKS_EVERY_S
    watchdog = Watchdog(60.0)
    watchdog.start()
    metrics = StreamMetrics(CollectorRegistry())
    _Telling("late", Settings(), [Sum()], checkpoint_s=0.1, watchdog=watchdog, metrics=metrics).run()


if __name__ == "__main__":
    main()
