"""KEDA's side in tests: a process of its own, since one process can hold the messages of one .proto file only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parent
#: KEDA's published file where somebody has it, else ours, which is written after it.
PROTO = Path(
    os.environ.get(
        "LAYERWATCH_KEDA_PROTO", _TESTS.parent / "services/layerwatch/scaler/proto/externalscaler.proto"
    )
)


class Keda:
    """Asks one scaler."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(
        self, method: str, metadata: dict[str, str] | None = None, seconds: float = 10.0
    ) -> dict[str, Any]:
        self.begin(method, metadata, seconds)
        return self.answer()

    def begin(self, method: str, metadata: dict[str, str] | None = None, seconds: float = 30.0) -> None:
        """Ask and do not wait: for streams."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, metadata or {}, seconds]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next one."""
        assert self._process.stdout is not None
        out: dict[str, Any] = json.loads(self._process.stdout.readline())
        return out


@contextmanager
def keda(port: int) -> Iterator[Keda]:
    argv = [sys.executable, str(_TESTS / "keda_client.py"), str(PROTO), f"127.0.0.1:{port}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        client = Keda(process)
        assert client.answer() == {"method": "started"}
        try:
            yield client
        finally:
            process.kill()
