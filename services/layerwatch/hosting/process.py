"""Child processes that leave nothing behind: each in a session of its own, and none outlives this process."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO

# Runs between fork and the program proper, in an interpreter of its own: a preexec_fn can deadlock in a process
# that has threads. 1 is PR_SET_PDEATHSIG of <sys/prctl.h>; exec keeps it.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""


class _Spawner:
    """Starts processes from one thread that never ends: Linux kills the child when the THREAD that forked it does."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], list[str], dict[str, object]]]
        self._orders = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid = 0

    def spawn(self, argv: list[str], options: dict[str, object]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():  # first call, or the first one after a fork
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="spawner", daemon=True).start()
        started: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((started, argv, options))
        return started.result()

    def _run(self) -> None:
        while True:
            started, argv, options = self._orders.get()
            try:
                started.set_result(subprocess.Popen(argv, **options))  # type: ignore[call-overload]
            except Exception as error:  # noqa: BLE001 - raised where the process was asked for
                started.set_exception(error)


_SPAWNER = _Spawner()


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that is killed when this process ends, however it ends (Linux; elsewhere it is not).

    It leads a session of its own, so a terminal's Ctrl-C reaches only us; `output` takes its stdout and stderr.
    """
    leashed = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *argv]
    options: dict[str, object] = {"cwd": cwd, "env": env, "stdout": output, "stderr": output}
    return _SPAWNER.spawn(leashed, options | {"stdin": subprocess.DEVNULL, "start_new_session": True})


def stop(process: subprocess.Popen[bytes], deadline_s: float) -> int:
    """Ask a spawned process to end, kill its whole session after `deadline_s`, and return its exit status."""
    signal_session(process, signal.SIGTERM)
    try:
        return process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        signal_session(process, signal.SIGKILL)
        return process.wait()


def signal_session(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a spawned process and what it started itself; nothing happens once it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def ending(process: subprocess.Popen[bytes] | None) -> str:
    """How a process ended, in words: its status, or the signal that killed it."""
    if process is None or process.returncode is None:
        return "not running"
    status = process.returncode
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
