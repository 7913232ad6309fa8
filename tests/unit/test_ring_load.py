"""The load that the agent's benchmark takes its figures on, as a process: it writes what runtimes do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOAD = Path(__file__).parents[1] / "benchmarks" / "ring_load.py"


def test_every_execution_of_the_load_is_written(tmp_path: Path) -> None:
    argv = [sys.executable, str(LOAD), str(tmp_path), "4000", "0.05"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written, _, unsent = map(int, done.stdout.split())
    assert written == 200
    assert unsent == 8, "of eight rings the first execution each is a sample, and no agent takes it"
