"""How the process of the history ends: before it starts, when it is told to, when its thread fails."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerwatch.history import server
from layerwatch.hosting.settings import HistorySettings, Settings
from layerwatch.schemas.errors import ConfigError, Unavailable


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def settings(folder: Path, port: int = 0) -> Settings:
    return Settings(state_dir=folder, history=HistorySettings.model_validate({"http_port": port}))


def test_a_port_that_is_taken_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="LAYERWATCH_HISTORY__HTTP_PORT"):
            server.run(settings(tmp_path, port))


def test_a_thread_that_fails_for_no_known_reason_ends_the_process_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server, "KafkaSource", broken)
    with pytest.raises(Unavailable, match="a bug"):
        server.run(settings(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_peace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def absent(*_: object) -> None:
        os.kill(os.getpid(), number)
        raise Unavailable("nobody there")

    monkeypatch.setattr(server, "KafkaSource", absent)
    server.run(settings(tmp_path))
