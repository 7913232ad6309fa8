"""A runtime's folder, as `layerwatch.schemas.runtimes` has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

from layerwatch.schemas.codec import encode, encode_json
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.runtimes import ABOUT_NAME, ALIVE_NAME, MANIFEST_NAME, Runtime

#: A folder whose runtime has been known to be gone for so long is removed by the next one that starts (s).
_ABANDONED_S = 3600.0
_ENDED_NAME = "ended"


class RuntimeFolder:
    """Made under a hidden name; `publish` shows it to the agent. Raises OSError where it cannot be made."""

    def __init__(self, root: Path, token: bytes) -> None:
        if not root.is_dir():
            # Runtimes of other users come here too, as to /tmp: each may remove only what is its own.
            root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                root.chmod(0o1777)
        self._shown = root / token.hex()
        self.path = root / f".{token.hex()}"
        self.path.mkdir(0o775)
        self._alive = os.open(self.path / ALIVE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def publish(self, about: Runtime) -> None:
        (self.path / ABOUT_NAME).write_bytes(encode_json(about))
        self.path.rename(self._shown)
        self.path = self._shown

    def write_manifest(self, manifest: Manifest) -> None:
        draft = self.path / f".{MANIFEST_NAME}"
        draft.write_bytes(encode(manifest))
        draft.replace(self.path / MANIFEST_NAME)

    def discard(self) -> None:
        """Leave nothing behind: what belongs in it could not be made."""
        self.let_go()
        shutil.rmtree(self.path, ignore_errors=True)

    def let_go(self) -> None:
        """Close the lock: of the process itself, it says that the runtime has ended; in a forked child, nothing."""
        fd, self._alive = self._alive, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def remove_abandoned(root: Path) -> None:
    """Mark folders whose runtimes have ended, and remove those that were marked an hour ago: no agent has come."""
    for alive in root.glob(f"*/{ALIVE_NAME}"):
        with contextlib.suppress(OSError):
            if not has_ended(alive.parent):
                continue
            mark = alive.with_name(_ENDED_NAME)
            if not mark.exists():
                mark.touch()
            elif time.time() - mark.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(alive.parent)


def has_ended(folder: Path) -> bool:
    """Whether the runtime of a folder is gone; raises OSError where that cannot be told."""
    fd = os.open(folder / ALIVE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
