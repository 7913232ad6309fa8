"""The demo, as a newcomer gets it: everything real, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import LIBS, free_port
from waiting import wait_until

pytestmark = pytest.mark.kafka


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    state = folder / "state"
    state.mkdir()
    (state / "kafka-libs").symlink_to(LIBS)
    own = {"STATE_DIR": state, "KAFKA__PORT": free_port(), "KAFKA__PARTITIONS": 4}
    own |= {f"{service}__HTTP_PORT": free_port() for service in ("PROCESSOR", "DECISION", "HISTORY")}
    env = os.environ | {f"LAYERWATCH_{name}": str(value) for name, value in own.items()}
    command = [sys.executable, "-m", "layerwatch.cli.demo", *arguments]
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_over(folder: Path) -> list[str]:
    """Processes whose environment names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes() and process.name != str(
                os.getpid()
            ):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # has ended, or is not ours
    return found


def test_the_demo_finds_what_it_promises_and_leaves_no_process(tmp_path: Path) -> None:
    running = demo(tmp_path)
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0, printed
    assert "6 of 6 injected faults found, 0 false alarms" in printed
    assert "DECISION  scale_out (shadow)" in printed
    assert "Traceback" not in printed
    assert left_over(tmp_path) == []


def test_the_demo_ends_within_seconds_when_it_is_interrupted(tmp_path: Path) -> None:
    running = demo(tmp_path, "--speed", "0.5")
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("Replaying"):
            break
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 130, printed
    assert "Traceback" not in printed
    wait_until(lambda: not left_over(tmp_path), "no process is left")
