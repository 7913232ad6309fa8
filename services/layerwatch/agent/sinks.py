"""Where messages go: Kafka, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol

from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.message_log import HEADER, Message, encode_message


class Sink(Protocol):
    """`offer` never waits and never raises. `agent.publisher.Publisher` is one."""

    offered: int
    acked: int
    failed: int
    dropped: int

    def offer(self, topic: str, key: bytes, value: bytes) -> None: ...
    def close(self, timeout_s: float = 2.0) -> None: ...


class FileSink:
    """Writes messages one after the other; what a full disk refuses is dropped and counted. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        self.offered = self.acked = self.failed = self.dropped = 0
        try:
            self._file: IO[bytes] = path.open("wb", buffering=0)
            self._file.write(HEADER)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}; choose another --to") from error
        self._end = len(HEADER)

    def offer(self, topic: str, key: bytes, value: bytes) -> None:
        self.offered += 1
        data = encode_message(Message(topic, key, value))
        try:
            if self._file.write(data) != len(data):
                raise OSError("the disk is full")
            self._end += len(data)
            self.acked += 1
        except OSError:
            self.dropped += 1
            self._cut()

    def close(self, timeout_s: float = 2.0) -> None:
        self._file.close()

    def _cut(self) -> None:
        """Half a message would end the file for its readers."""
        try:
            self._file.seek(self._end)
            self._file.truncate()
        except OSError:
            self.failed += 1
