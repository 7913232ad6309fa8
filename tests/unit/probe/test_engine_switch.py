"""The switch between engines: obeys decisions while they hold, drops no execution, runs none twice, and never raises."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_tensorrt import FakeContext, FakeCuda, FakeEngine, hot_context, trt
from listener import Listener
from waiting import wait_until

from layerwatch.probe import EngineSwitch, Probe
from layerwatch.schemas import control_page
from layerwatch.schemas.control_page import Route

STREAM = 7


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "shared")
    yield made
    made.close()


class Served(NamedTuple):
    """As a caller holds an engine: its probe and what a thread executes on."""

    engine: FakeEngine
    probe: Probe

    def execute(self, context: FakeContext) -> None:
        with self.probe.execution(context, STREAM, {"ids": (1, 32)}) as run:
            run.context.execute_async_v3(STREAM)
            self.engine.cuda.finish(STREAM)


def served(folder: Path, name: str) -> Served:
    engine = FakeEngine(FakeCuda())
    probe = Probe(
        engine, service="bert-qa", instance=name, folder=str(folder), trt=trt, cuda=engine.cuda, rate=0.0
    )
    return Served(engine, probe)


def switch_between(*names: str, probe: Any) -> EngineSwitch[str]:
    return EngineSwitch(probe, "primary", {name: name for name in names})


def used(switch: EngineSwitch[str]) -> str:
    with switch.pick() as engine:
        return engine


def test_without_a_decision_everything_is_on_the_primary(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    assert [used(switch) for _ in range(3)] == ["primary"] * 3
    assert (switch.name, switch.problem) == ("", "")


@pytest.mark.parametrize(
    ("action", "engine", "expected"),
    [
        ("fallback_precision", "fp16", "fp16"),
        ("failover", "v1", "v1"),
        ("none", "fp16", "primary"),
        ("shed", "fp16", "primary"),
        ("restore", "fp16", "primary"),
        ("failover", "v2", "primary"),
        ("failover", "", "primary"),
    ],
)
def test_a_decision_names_the_engine(listener: Listener, action: str, engine: str, expected: str) -> None:
    switch = switch_between("fp16", "v1", probe=served(listener.folder, "a").probe)
    listener.route(action, engine)
    assert used(switch) == expected
    not_obeyed = action == "failover" and expected == "primary"
    assert ("is not obeyed" in switch.problem) == not_obeyed
    listener.route("failover", "v1", decision="d2")
    assert (used(switch), switch.name, switch.problem) == ("v1", "v1", "")


def test_with_one_standby_no_name_is_needed(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "")
    assert used(switch) == "fp16"


def test_it_goes_back_when_the_lease_ends_without_anybody_there(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "fp16", for_s=0.3)
    listener.close()
    assert used(switch) == "fp16"
    wait_until(lambda: used(switch) == "primary", "the lease has ended", 10)


def test_an_execution_stays_where_it_began(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "fp16")
    with switch.pick() as engine:
        listener.route("none")
        assert engine == "fp16"
        assert (switch.running("fp16"), switch.running()) == (1, 0)
        with switch.pick() as other:
            assert other == "primary"
            assert (switch.running("fp16"), switch.running()) == (1, 1)
    assert (switch.running("fp16"), switch.running()) == (0, 0)


def test_half_a_route_and_nonsense_on_the_page_change_nothing(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "fp16")
    assert used(switch) == "fp16"
    data = control_page.encode_route(99, Route("none", "", time.time() + 60))
    fd = os.open(listener.runtimes()[0] / "control", os.O_RDWR)
    for torn in (data[:100], os.urandom(256)):
        os.pwrite(fd, torn, control_page.ROUTE_OFFSET)
        assert used(switch) == "fp16"
    os.pwrite(fd, data, control_page.ROUTE_OFFSET)
    os.close(fd)
    assert used(switch) == "primary"


def fail(switch: EngineSwitch[str], error: type[BaseException] = RuntimeError) -> str:
    where = []

    def execute() -> None:
        with switch.pick() as engine:
            where.append(engine)
            raise error

    with pytest.raises(error):
        execute()
    return where[0]


def test_a_standby_that_fails_is_left_for_this_decision(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "fp16")
    assert [fail(switch), fail(switch), used(switch)] == ["fp16"] * 3
    assert [fail(switch), fail(switch), fail(switch)] == ["fp16"] * 3
    assert used(switch) == "primary"
    assert "3 executions in a row have failed on fp16" in switch.problem
    listener.route("fallback_precision", "fp16")  # the same decision, renewed
    assert used(switch) == "primary"
    listener.route("fallback_precision", "fp16", decision="d2")
    assert used(switch) == "fp16"
    assert [fail(switch, KeyboardInterrupt) for _ in range(4)] == ["fp16"] * 4  # no fault of the engine
    assert switch.running("fp16") == 0


def test_failures_on_the_primary_are_the_callers(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    assert [fail(switch) for _ in range(5)] == ["primary"] * 5
    assert switch.running() == 0


class _Broken:
    def route(self) -> Route | None:
        raise OSError("a defect")


def test_what_is_broken_around_it_leaves_the_primary(tmp_path: Path) -> None:
    assert used(switch_between("fp16", probe=_Broken())) == "primary"
    assert switch_between("fp16", probe=_Broken()).name == ""
    unwatched = Probe(FakeEngine(FakeCuda()), service="s", folder="/dev/null/x", trt=trt, cuda=FakeCuda())
    assert unwatched.problem
    assert used(switch_between("fp16", probe=unwatched)) == "primary"
    closed = served(tmp_path / "shared", "a").probe
    closed.close()
    assert used(switch_between("fp16", probe=closed)) == "primary"


def test_in_a_forked_child_it_is_on_the_primary(listener: Listener) -> None:
    switch = switch_between("fp16", probe=served(listener.folder, "a").probe)
    listener.route("fallback_precision", "fp16")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if used(switch) == "primary" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert used(switch) == "fp16"


@pytest.mark.parametrize("seed", range(6))
def test_threads_lose_no_execution_and_run_none_twice_whatever_is_decided_meanwhile(
    listener: Listener, seed: int
) -> None:
    random.seed(seed)
    primary, standby = served(listener.folder, "primary"), served(listener.folder, "fp16")
    switch = EngineSwitch(primary.probe, primary, {"fp16": standby})
    threads, each = 6, 300
    asked = [0] * threads
    wrong: list[BaseException] = []

    def serve(number: int) -> None:
        rng = random.Random(f"{seed}-{number}")
        contexts = {id(side): hot_context(side.engine) for side in (primary, standby)}
        try:
            for _ in range(each):
                before = sum(context.executions for context in contexts.values())
                with switch.pick() as side:
                    if rng.random() < 0.05:
                        time.sleep(rng.random() / 500)
                    side.execute(contexts[id(side)])
                assert sum(context.executions for context in contexts.values()) == before + 1
                asked[number] += 1
        except BaseException as error:  # noqa: BLE001 - of a thread: told at the end
            wrong.append(error)

    working = [threading.Thread(target=serve, args=(number,)) for number in range(threads)]
    for thread in working:
        thread.start()
    decision = 0
    while any(thread.is_alive() for thread in working):
        decision += 1
        action = random.choice(["fallback_precision", "none", "restore", "failover"])
        listener.route(action, random.choice(["fp16", ""]), random.choice([60.0, 0.002]), f"d{decision}")
        time.sleep(random.random() / 300)
    assert wrong == []
    assert asked == [each] * threads
    assert primary.engine.executions + standby.engine.executions == threads * each
    counted = [side.probe.counters() for side in (primary, standby)]
    assert sum(c["executions"] for c in counted) == threads * each
    assert [c["errors"] for c in counted] == [0, 0]
    assert standby.engine.executions > 0
    assert primary.engine.executions > 0
    assert (switch.running(), switch.running("fp16"), switch.problem) == (0, 0, "")
