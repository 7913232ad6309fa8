"""One holder at a time of a folder, over processes; the kernel frees it when the holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from layerwatch.schemas.errors import ConfigError


class Lock:
    """Held from construction to `release`; raises ConfigError naming the other holder."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise ConfigError(
                f"{path.parent} is in use by process {holder}: stop that one, or set LAYERWATCH_STATE_DIR"
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()
