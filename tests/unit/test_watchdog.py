"""The watchdog's judgement with a clock of the tests, and its deed with a real event loop."""

from __future__ import annotations

import subprocess
import sys

import pytest

from layerwatch.hosting.watchdog import STUCK, Watchdog


class Bench:
    """A watchdog with hang_s=10 whose clock and end are the test's."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.ended: list[int] = []
        self.dog = Watchdog(10, end=self.ended.append, clock=lambda: self.now_s)

    def turn(self, seconds: float) -> None:
        """Time in which the event loop turns."""
        self.now_s += seconds
        self.dog.tick()

    def problem(self) -> str:
        return self.dog.problem() or ""


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.dog.tick()
    return bench


def test_while_records_flow_and_the_loop_turns_all_is_well(bench: Bench) -> None:
    for _ in range(100):
        bench.dog.behind(True)
        bench.dog.begin("instances")
        bench.turn(9)
        bench.dog.done("instances")
    assert bench.dog.problem() is None


def test_while_there_is_nothing_to_do_all_is_well(bench: Bench) -> None:
    for _ in range(100):
        bench.dog.behind(False)
        bench.turn(9)
    assert bench.dog.problem() is None


def test_a_loop_that_has_stopped_is_noticed(bench: Bench) -> None:
    bench.now_s += 10.1
    assert bench.problem() == "the event loop has not turned for 10 s"


def test_a_hung_handler_is_noticed(bench: Bench) -> None:
    bench.dog.begin("instances")
    bench.turn(10.1)
    assert bench.problem() == "one record has been in work for more than 10 s"


def test_a_hung_handler_is_noticed_though_another_one_works(bench: Bench) -> None:
    bench.dog.begin("instances")
    for _ in range(3):
        bench.dog.begin("services")
        bench.turn(4)
        bench.dog.done("services")
    assert bench.problem() == "one record has been in work for more than 10 s"


def test_records_that_wait_without_progress_are_noticed_after_twice_the_time(bench: Bench) -> None:
    bench.dog.behind(True)
    for _ in range(4):
        bench.turn(5)
        bench.dog.behind(True)
    assert bench.dog.problem() is None
    bench.turn(0.1)
    assert bench.problem() == "records wait, and none has been processed for 20 s"


def test_a_shutdown_that_takes_too_long_is_noticed(bench: Bench) -> None:
    bench.dog.stopping()
    bench.turn(9)
    bench.dog.stopping()
    bench.turn(9)
    assert bench.dog.problem() is None
    bench.turn(2.1)
    assert bench.problem() == "not stopped within 20 s"


def test_a_slow_start_is_given_a_minute() -> None:
    bench = Bench()
    bench.now_s += 59
    assert bench.dog.problem() is None
    bench.now_s += 2
    assert bench.problem() == "the event loop has not begun to turn"


def test_it_ends_the_process_with_a_status_of_its_own(bench: Bench) -> None:
    bench.dog.abort("for a test")
    assert bench.ended == [STUCK] == [70]


BLOCKED = """
import asyncio, time
from layerwatch.hosting.watchdog import Watchdog
dog = Watchdog(0.5)
async def main():
    dog.tick()
    dog.start()
    for _ in range(10):
        dog.tick()
        await asyncio.sleep(0.1)
    print("blocking", flush=True)
    time.sleep(3600)
asyncio.run(main())
"""


def test_a_blocked_event_loop_ends_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (STUCK, "blocking\n")
    assert "the event loop has not turned" in done.stderr
