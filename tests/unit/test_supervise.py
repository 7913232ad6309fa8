"""The supervisor, with small programs: what ends comes back, what is stopped is gone."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import alive, wait_until

from layerwatch.hosting.child import Child
from layerwatch.hosting.supervise import Supervisor
from layerwatch.schemas.errors import Unavailable

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); " + SLEEP
)


def _python(name: str, code: str, stop_timeout_s: float = 25.0) -> Child:
    return Child(name, (sys.executable, "-c", code), stop_timeout_s=stop_timeout_s)


@contextmanager
def _running(*children: Child) -> Iterator[Supervisor]:
    supervisor = Supervisor(children)
    try:
        yield supervisor.start()
    finally:
        supervisor.kill()
        supervisor.stop()


def test_a_child_that_is_killed_is_started_again_and_the_others_are_left_alone() -> None:
    with _running(_python("one", SLEEP), _python("two", SLEEP)) as supervisor:
        before = supervisor.pids
        assert before["one"] is not None
        os.kill(before["one"], signal.SIGKILL)
        wait_until(lambda: supervisor.starts["one"] == 2 and supervisor.pids["one"], "the second start")
        assert supervisor.pids["one"] != before["one"]
        assert supervisor.pids["two"] == before["two"]


def test_a_child_that_keeps_ending_is_started_ever_more_slowly_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), _running(_python("flaky", "raise SystemExit(3)")) as supervisor:
        wait_until(lambda: supervisor.starts["flaky"] == 4, "four starts")
    pauses = [float(text.split()[-2]) for text in caplog.messages if "flaky ended (status 3)" in text]
    assert pauses[:3] == [0.5, 1.0, 2.0]


def test_waiting_names_what_is_not_ready() -> None:
    late = Child("late", (sys.executable, "-c", SLEEP), "http://127.0.0.1:1/readyz")
    with (
        _running(_python("quick", SLEEP), late) as supervisor,
        pytest.raises(Unavailable, match=r"not ready within 0\.1 s: late;"),
    ):
        supervisor.wait_ready(0.1)


def test_stopping_ends_even_a_child_that_ignores_sigterm(capfd: pytest.CaptureFixture[str]) -> None:
    with _running(_python("stubborn", STUBBORN, stop_timeout_s=0.2), _python("meek", SLEEP)) as supervisor:
        wait_until(lambda: "deaf" in capfd.readouterr().out, "its deafness")
        pids = [pid for pid in supervisor.pids.values() if pid]
        assert len(pids) == 2
        supervisor.stop()
        assert not any(map(alive, pids))
        assert supervisor.starts == {"stubborn": 1, "meek": 1}


def test_a_program_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with _running(Child("ghost", ("no-such-program",))) as supervisor:
        wait_until(lambda: supervisor.starts["ghost"] == 2, "a second try")
    assert "cannot run no-such-program" in capfd.readouterr().err


def test_children_do_not_outlive_a_supervisor_that_is_killed() -> None:
    child = "import os; print(os.getpid(), flush=True); " + SLEEP
    code = f"""
import sys, time
from layerwatch.hosting.child import Child
from layerwatch.hosting.supervise import Supervisor
supervisor = Supervisor([Child("child", (sys.executable, "-c", {child!r}))]).start()
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())  # said by the child itself: it is past its start
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid), "the child's end")
