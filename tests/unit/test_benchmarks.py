"""Measurements that are not run here can be run: each script of `tests/benchmarks` finds what it names in the code."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_can_be_loaded(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if script.stem == "slow_lstm":
        pytest.importorskip("torch")
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    runpy.run_path(str(script), run_name="loaded")
