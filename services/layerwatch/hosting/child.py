"""A program that is run as a child process and says when it is ready."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from urllib.request import urlopen

from layerwatch.hosting import process
from layerwatch.schemas.errors import Unavailable

_ASK_TIMEOUT_S = 2.0


class Child:
    """`argv` as a child process; ready when `ready_url` answers 200, or at once without one."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        ready_url: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        stop_timeout_s: float = 25.0,
    ) -> None:
        self.name = name
        self.ready_url = ready_url
        self._argv = argv
        self._env = env
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None when there is none."""
        running = self._process
        return running.pid if running is not None and running.poll() is None else None

    def launch(self) -> None:
        """Start it, without waiting until it is ready; its output goes where ours goes."""
        self._process = process.spawn(self._argv, env=self._env)

    def ready(self) -> bool:
        """Whether it answers; raises Unavailable when it has ended."""
        if self.pid is None:
            raise Unavailable(f"{self.name} ended ({process.ending(self._process)}): its log says why")
        return self.ready_url is None or _answers(self.ready_url)

    def stop(self) -> None:
        """Ask it to end, by force after `stop_timeout_s`."""
        if (running := self._process) is not None:
            process.stop(running, self._stop_timeout_s)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if (running := self._process) is not None:
            process.signal_session(running, signal.SIGKILL)
            running.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=_ASK_TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    except (OSError, HTTPException):
        return False
