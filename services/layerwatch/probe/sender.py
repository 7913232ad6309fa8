"""The way of sampled layers to the agent: datagrams, never waited for."""

from __future__ import annotations

import logging
import socket
import time

_log = logging.getLogger(__name__)

#: Between two attempts to reach an agent, in ns.
_RETRY_NS = 1_000_000_000
#: Layers of thousands of nodes must fit; asked for, the kernel's own limit holds (bytes).
_BUFFER_BYTES = 1 << 20


class Sender:
    """Connected while an agent listens at `path`. `problem` says why not, in words."""

    def __init__(self, path: str) -> None:
        self.problem = ""
        self._path = path
        self._socket: socket.socket | None = None
        self._retry_ns = 0
        self._closed = False

    def is_connected(self) -> bool:
        """Whether an agent listens, as far as is known; looks for one at most once a second."""
        if self._socket is not None:
            return True
        now_ns = time.perf_counter_ns()
        if now_ns < self._retry_ns or self._closed:
            return False
        self._retry_ns = now_ns + _RETRY_NS
        self._connect()
        return self._socket is not None

    def send(self, data: bytes) -> str | None:
        """None when the agent's socket has it; else the counter of its loss. Never waits, never raises."""
        current = self._socket
        if current is None:
            return "no_agent"
        try:
            current.send(data)
        except BlockingIOError:
            return "socket_full"
        except (ConnectionError, FileNotFoundError) as error:
            self._lose(current, error)
            return "no_agent"
        except OSError as error:
            self._lose(current, error)
            return "send_failed"
        return None

    def close(self) -> None:
        self._closed = True
        current, self._socket = self._socket, None
        if current is not None:
            current.close()

    def _connect(self) -> None:
        made: socket.socket | None = None
        try:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            made.connect(self._path)
        except OSError as error:
            self._tell(error)
            if made is not None:
                made.close()
            return
        self.problem = ""
        self._socket = made

    def _lose(self, current: socket.socket, error: OSError) -> None:
        self._tell(error)
        self._socket = None
        current.close()

    def _tell(self, error: OSError) -> None:
        problem = f"no agent at {self._path}: {error.strerror or error}"
        if problem != self.problem:
            self.problem = problem
            _log.info("%s; executions are timed, their layers are not sampled", problem)
