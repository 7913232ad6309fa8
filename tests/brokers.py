"""Real brokers and settings for tests."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from layerwatch.broker import jars
from layerwatch.broker.local import LocalBroker
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable

PARTITIONS = 4
CHECKOUT = Path(__file__).resolve().parents[1]
STATE_DIR = Path(os.environ.get("LAYERWATCH_STATE_DIR", CHECKOUT / ".layerwatch"))
LIBS = STATE_DIR / "kafka-libs"


def free_port() -> int:
    """A port that is free together with the next one, for a broker and its controller."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def new_broker(home: Path) -> LocalBroker:
    """A broker, not started; skips the test where it cannot run, but under CI=true fails it."""
    try:
        jars.require_java()
        if not jars.present(LIBS):
            raise Unavailable(f"Kafka's jars are not in {LIBS}: run `make setup`")
    except Unavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    return LocalBroker(home, LIBS, free_port())


def make_settings(broker: LocalBroker, tmp_path: Path, **overrides: Any) -> Settings:
    """Settings for services against `broker`: state in `tmp_path`, Kafka's jars, four partitions, any HTTP ports.

    `overrides` are sections or top-level settings; a dictionary changes single settings of its section.
    """
    state_dir = tmp_path / "state"
    state_dir.mkdir(exist_ok=True)
    if not (state_dir / "kafka-libs").exists():
        (state_dir / "kafka-libs").symlink_to(LIBS)
    sections: dict[str, Any] = {
        "state_dir": state_dir,
        "kafka": {"port": broker.port, "partitions": PARTITIONS},
        "processor": {"http_port": 0},
        "decision": {"http_port": 0},
        "history": {"http_port": 0},
        "notify": {"http_port": 0},
        "scaler": {"http_port": 0, "grpc_port": 0},
    }
    for name, value in overrides.items():
        sections[name] = sections.get(name, {}) | value if isinstance(value, dict) else value
    return Settings.model_validate(sections)
