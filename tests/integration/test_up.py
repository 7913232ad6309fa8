"""Everything on one machine, with small stand-ins for the services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import free_port, make_settings, new_broker
from waiting import alive, wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.cli.stack import Stack
from layerwatch.hosting import topics
from layerwatch.hosting.child import Child
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import ConfigError

pytestmark = pytest.mark.kafka

READY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def _ready(name: str) -> Child:
    port = free_port()
    return Child(name, (sys.executable, "-c", READY, str(port)), f"http://127.0.0.1:{port}/readyz")


@contextmanager
def _up(settings: Settings, *children: Child) -> Iterator[Stack]:
    stack = Stack(settings, children)
    try:
        yield stack.start()
    finally:
        stack.kill()
        stack.stop()


@contextmanager
def _command(settings: Settings, children: str) -> Iterator[subprocess.Popen[str]]:
    """`layerwatch up` as a process, with the services that the expression `children` makes."""
    code = f"""
import sys
from layerwatch.cli import stack
from layerwatch.cli.main import main
from layerwatch.hosting.child import Child
stack.services = lambda settings: {children}
main(["up"])
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(settings), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for_lines(process: subprocess.Popen[str], *texts: str) -> None:
    """Read until each text was in a line, in whatever order."""
    assert process.stdout is not None
    missing = set(texts)
    for line in process.stdout:
        missing = {text for text in missing if text not in line}
        if not missing:
            return
    raise AssertionError(f"ended without {missing}")


def _descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_starts_all_brings_back_what_crashes_and_stops_without_a_trace(tmp_path: Path) -> None:
    settings = make_settings(new_broker(tmp_path), tmp_path)
    with _up(settings, _ready("processor"), _ready("history")) as stack:
        stack.wait_ready()
        assert topics.check(settings) == []
        before = stack.pids
        assert list(before) == ["broker", "processor", "history"]
        for name in ("broker", "processor"):
            pid = before[name]
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: all(stack.pids[name] not in (None, before[name]) for name in ("broker", "processor")),
            "both again",
        )
        stack.wait_ready()
        assert topics.check(settings) == []
        assert stack.pids["history"] == before["history"]
        last = [pid for pid in stack.pids.values() if pid]
        stack.stop()
        assert not any(map(alive, last))


def test_a_second_one_on_the_same_state_is_refused_and_the_first_is_left_alone(
    kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(kafka, tmp_path, kafka={"bootstrap": kafka.bootstrap})
    with _up(settings, _ready("processor")) as first:
        second = Stack(settings, [_ready("processor")])
        with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}.*LAYERWATCH_STATE_DIR"):
            second.start()
        second.stop()
        assert second.pids == {"processor": None}
        assert first.pids["processor"] is not None
    with _up(settings, _ready("processor")) as again:
        again.wait_ready()


def test_with_a_cluster_configured_no_broker_is_started(kafka: LocalBroker, tmp_path: Path) -> None:
    settings = make_settings(kafka, tmp_path, kafka={"bootstrap": kafka.bootstrap})
    with _up(settings, _ready("processor")) as stack:
        stack.wait_ready()
        assert list(stack.pids) == ["processor"]
        assert topics.check(settings) == []
    assert kafka.pid is not None


def test_the_command_says_where_to_look_and_leaves_nothing_behind_on_sigterm(tmp_path: Path) -> None:
    settings = make_settings(new_broker(tmp_path), tmp_path)
    sleeper = "[Child('processor', (sys.executable, '-c', 'import time; time.sleep(600)'))]"
    with _command(settings, sleeper) as command:
        _wait_for_lines(command, f"  Kafka     {settings.kafka.servers}")
        children = _descendants(command.pid)
        assert len(children) == 2
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 0
        assert not any(map(alive, children))


def test_a_second_ctrl_c_does_not_wait_for_a_service_that_hangs(kafka: LocalBroker, tmp_path: Path) -> None:
    settings = make_settings(kafka, tmp_path, kafka={"bootstrap": kafka.bootstrap})
    hanging = f"[Child('processor', (sys.executable, '-c', {STUBBORN!r}), stop_timeout_s=3600)]"
    with _command(settings, hanging) as command:
        _wait_for_lines(command, "deaf", "  Kafka")
        children = _descendants(command.pid)
        command.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(1)
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0
        assert children
        assert not any(map(alive, children))


def test_nothing_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    settings = make_settings(new_broker(tmp_path), tmp_path)
    sleeper = "[Child('processor', (sys.executable, '-c', 'import time; time.sleep(600)'))]"
    with _command(settings, sleeper) as command:
        _wait_for_lines(command, "  Kafka")
        children = _descendants(command.pid)
        assert len(children) == 2
        command.kill()
        wait_until(lambda: not any(map(alive, children)), "the end of broker and service")
