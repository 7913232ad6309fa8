"""What the README promises: its example runs, and no setting or command is missing from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layerwatch.cli.main import COMMANDS
from layerwatch.hosting import settings

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()


def test_every_setting_is_told_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    for path, value, _, description in settings.describe(settings.Settings()):
        shown = "" if value is None else f"`{value}`"
        assert f"| `{settings.variable(path)}` | {shown} | {description} |" in README


def test_every_command_is_told() -> None:
    for name in COMMANDS:
        assert re.search(rf"layerwatch {name}\b|`{name}`", README), name


def test_the_example_that_scores_a_file_prints_what_was_injected() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    causes = [line.split()[2] for line in ran.stdout.splitlines()]
    assert causes == [
        "gpu_contention",
        "gpu_contention",
        "pcie_contention",
        "host_starvation",
        "memory_bandwidth",
        "gpu_contention",
    ]
