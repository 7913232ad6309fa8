"""What the process of the history says when it cannot start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from layerwatch.history.server import run
from layerwatch.hosting.settings import HistorySettings, Settings
from layerwatch.schemas.errors import ConfigError


def test_a_port_that_is_taken_is_told_with_the_setting_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(
            state_dir=tmp_path, history=HistorySettings.model_validate({"http_port": taken.getsockname()[1]})
        )
        with pytest.raises(ConfigError, match="LAYERWATCH_HISTORY__HTTP_PORT"):
            run(settings)
