"""The socket on which runtimes send the layers of sampled executions, and those that wait for their record."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.runtimes import SOCKET_NAME
from layerwatch.schemas.samples import MAX_BYTES, LayerSample, decode_sample

#: Layers that wait for their record: beyond, the oldest are dropped (bytes).
_WAITING_BYTES = 32 << 20
_RECEIVE_BUFFER_BYTES = 8 << 20
#: Datagrams that are taken at a time, so that rings get their turn.
_BATCH = 1024
#: Between two looks whether to end (s).
_LOOK_S = 0.2


class Inbox:
    """Bound while it is open; a socket that a dead agent left is replaced. Raises OSError where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self.received = self.refused = self.dropped = 0
        self._path = folder / SOCKET_NAME
        self._waiting: dict[tuple[bytes, int, int], LayerSample] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._path.unlink(missing_ok=True)
            self._socket.bind(str(self._path))
            self._path.chmod(0o666)  # runtimes of all users
        except BaseException:
            self._socket.close()
            raise

    def listen(self) -> None:
        """Take what comes in a thread of its own: the kernel may hold as few as ten datagrams."""
        self._thread = threading.Thread(target=self._listen, name="inbox", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Take what has come."""
        with self._lock:
            self._drain()

    def _listen(self) -> None:
        while not self._closing:
            if select.select([self._socket], [], [], _LOOK_S)[0]:
                self.drain()

    def _drain(self) -> None:
        for _ in range(_BATCH):
            try:
                data = self._socket.recv(MAX_BYTES)
            except BlockingIOError:
                return
            self.received += 1
            try:
                sample = decode_sample(data)
            except InvalidRecord:
                self.refused += 1
                continue
            self._keep(sample)

    def take(self, token: bytes, ring: int, position: int) -> LayerSample | None:
        """The layers of a record; None where they were lost."""
        with self._lock:
            return self._take((token, ring, position))

    def forget(self, token: bytes) -> None:
        """A runtime has ended and its last record was taken."""
        with self._lock:
            for key in [key for key in self._waiting if key[0] == token]:
                self._take(key)
                self.dropped += 1

    def close(self) -> None:
        self._closing = True
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _keep(self, sample: LayerSample) -> None:
        key = (sample.token, sample.ring, sample.position)
        if key in self._waiting:
            self._take(key)
        self._waiting[key] = sample
        self._bytes += len(sample.times_ms)
        while self._bytes > _WAITING_BYTES:
            self._take(next(iter(self._waiting)))
            self.dropped += 1

    def _take(self, key: tuple[bytes, int, int]) -> LayerSample | None:
        sample = self._waiting.pop(key, None)
        if sample is not None:
            self._bytes -= len(sample.times_ms)
        return sample
