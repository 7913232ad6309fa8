"""The usual execution, compiled and not: the same records, the same samples, and nothing that reaches the caller."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
from listener import Listener

from layerwatch.probe import Probe, usual
from layerwatch.probe.run import FullRun
from layerwatch.schemas.profiles import IN_GRAPH

_SHAPES = {"ids": (1, 32)}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "shared")
    yield made
    made.close()


def make_probe(engine: Any, listener: Listener, rate: float = 0.0) -> Probe:
    return Probe(engine, service="bert-qa", folder=str(listener.folder), trt=trt, cuda=engine.cuda, rate=rate)


def is_usual(run: usual.Run) -> bool:
    return not isinstance(run, FullRun)


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="no C compiler, or no headers of this Python",
)
@pytest.mark.skipif(os.environ.get(usual.SWITCH) == "0", reason="switched off")
def test_where_there_is_a_compiler_it_is_compiled() -> None:
    assert usual.COMPILED


@pytest.mark.skipif(not usual.COMPILED, reason="these tests have just been run so")
def test_all_tests_of_the_probe_pass_without_the_compiled_half() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)],
        check=False,
        env={**os.environ, usual.SWITCH: "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def test_one_more_of_the_same_is_usual_however_its_arguments_are_given(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    calls: list[Any] = [
        lambda: probe.execution(hot, 7, dict(_SHAPES)),
        lambda: probe.execution(hot, 7, _SHAPES),
        lambda: probe.execution(hot, 7, shapes={"ids": (1, 32)}),
        lambda: probe.execution(hot, 7, _SHAPES, graph=True, request_id=2**64 - 1),
    ]
    with probe.execution(hot, 7, _SHAPES) as run:
        assert not is_usual(run)
    for call in calls:
        with call() as run:
            assert is_usual(run)
            assert (run.context, run.sampled, run.twin) == (hot, False, None)
            run.launched()
    probe.close()
    found = listener.executions()
    assert [e.since_change for e in found] == [0, 1, 2, 3, 4]
    assert [e.request_id for e in found] == [0, 0, 0, 0, 2**64 - 1]
    assert [e.flags for e in found] == [0, 0, 0, 0, IN_GRAPH]
    assert all(0 <= e.host_ns <= e.end_to_end_ns for e in found[1:])
    assert probe.counters()["errors"] == 0


@pytest.mark.parametrize("number", [-1, 2**64, 1.5, "seven", None])
def test_a_request_id_that_does_not_fit_is_none(listener: Listener, number: Any) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    for _ in range(3):
        with probe.execution(hot, 7, _SHAPES, request_id=number):
            pass
    probe.close()
    assert [e.request_id for e in listener.executions()] == [0] * 3
    assert probe.counters()["errors"] == 0


@pytest.mark.parametrize(
    "shapes",
    [None, types.MappingProxyType(_SHAPES), {"ids": [1, 32]}, {"ids": (1, 32), "mask": (1, 32)}, {}],
    ids=repr,
)
def test_shapes_that_are_no_dict_of_tuples_take_the_full_way(listener: Listener, shapes: Any) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    hot.set_input_shape("ids", (1, 32))
    for given in (_SHAPES, _SHAPES, shapes, shapes, _SHAPES, _SHAPES):
        with probe.execution(hot, 7, given):
            pass
    probe.close()
    found = listener.executions()
    assert len(found) == 6
    assert found[0].dimensions == found[-1].dimensions == (1, 32)
    assert probe.counters()["errors"] == 0


def test_wrong_arguments_are_told_as_python_tells_them(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe: Any = make_probe(engine, listener)
    with pytest.raises(TypeError):
        probe.execution()
    with pytest.raises(TypeError):
        probe.execution(hot_context(engine), 7, _SHAPES, True)
    with pytest.raises(TypeError):
        probe.execution(hot_context(engine), 7, _SHAPES, stratum=3)


class _Spoilt(tuple[int, ...]):
    """Dimensions that cannot be compared."""

    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not like this")


def test_shapes_that_cannot_be_compared_are_a_counted_error_and_the_execution_goes_on(
    listener: Listener,
) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    ran = 0
    for given in (_SHAPES, {"ids": _Spoilt((1, 32))}, _SHAPES, _SHAPES):
        with probe.execution(hot, 7, given):
            ran += 1
    assert ran == 4
    assert probe.counters()["errors"] > 0
    probe.close()
    assert listener.executions()[-1].dimensions == (1, 32)


def test_what_the_callers_block_raises_is_the_callers(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), probe.execution(hot, 7, _SHAPES):
            raise ZeroDivisionError
        with probe.execution(hot, 7, _SHAPES):
            pass
    counted = probe.counters()
    assert (counted["failed"], counted["executions"], counted["errors"]) == (3, 3, 0)


def test_an_order_is_obeyed_by_the_next_execution_of_every_shape(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    lengths = (32, 64, 128)
    for length in [*lengths, *lengths]:
        with probe.execution(hot, 7, {"ids": (1, length)}) as run:
            assert not run.sampled
    listener.order("canary", 1.0)
    for length in lengths:
        hot.set_input_shape("ids", (1, length))
        with probe.execution(hot, 7, {"ids": (1, length)}) as run:
            assert run.sampled
            run.context.execute_async_v3(7)
            engine.cuda.finish(7)
    listener.order("off", 0.0)
    for length in [*lengths, *lengths]:
        with probe.execution(hot, 7, {"ids": (1, length)}) as run:
            assert not run.sampled


def test_an_order_that_expires_is_looked_at_anew(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener, rate=1.0), hot_context(engine)
    listener.order("off", 0.0, for_s=1e-9)
    usual_ones = 0
    for _ in range(3):
        with probe.execution(hot, 7, _SHAPES) as run:
            usual_ones += is_usual(run)
    assert (usual_ones, probe.tier) == (0, "baseline")


def test_a_closed_probe_counts_what_it_does_not_watch(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    for _ in range(3):
        with probe.execution(hot, 7, _SHAPES):
            pass
    with probe.execution(hot, 7, _SHAPES):
        probe.close()
    with probe.execution(hot, 7, _SHAPES) as run:
        assert run.context is hot
    assert probe.counters()["unwatched"] == 1
    assert len(listener.executions()) == 4


def test_two_probes_in_one_thread_keep_to_their_own_rings(listener: Listener) -> None:
    engines = [FakeEngine(FakeCuda()) for _ in range(2)]
    probes = [make_probe(engine, listener) for engine in engines]
    contexts = [hot_context(engine) for engine in engines]
    for turn in range(10):
        for probe, hot in zip(probes, contexts, strict=True):
            with probe.execution(hot, 7, {"ids": (1, 32 + turn % 2)}):
                pass
    assert [probe.counters()["executions"] for probe in probes] == [10, 10]


def test_executions_leave_nothing_behind_in_memory(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)

    def some() -> None:
        for turn in range(2000):
            with probe.execution(hot, 7, {"ids": (1, 32 + turn % 3)}, request_id=turn) as run:
                run.launched()

    def held() -> list[int]:
        gc.collect()
        assert probe._watch is not None
        (lane,) = probe._watch.lanes
        (seen,) = lane.seen.values()
        looks = [*seen.others.values()]
        return [sys.getrefcount(kept) for kept in (hot, lane, seen, *looks)]

    some()
    before, objects = held(), len(gc.get_objects())
    some()
    assert held() == before
    assert len(gc.get_objects()) - objects < 20
    assert probe.counters()["executions"] == 4000


def test_a_probe_that_is_dropped_gives_everything_back(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe, hot = make_probe(engine, listener), hot_context(engine)
    for _ in range(3):
        with probe.execution(hot, 7, _SHAPES):
            pass
    assert probe._watch is not None
    kept: list[Any] = [weakref.ref(probe), weakref.ref(probe._watch.lanes[0]), weakref.ref(hot)]
    del probe, hot
    engine.contexts.clear()
    gc.collect()
    assert [ref() for ref in kept] == [None, None, None]


@pytest.mark.skipif(not usual.COMPILED, reason="there is nothing to compare with")
@pytest.mark.parametrize("seed", range(8))
def test_both_halves_write_down_the_same(tmp_path: Path, seed: int) -> None:
    story = Path(__file__).parents[2] / "probe_story.py"
    told = [
        subprocess.run(
            [sys.executable, str(story), str(tmp_path / switch), str(seed)],
            env={**os.environ, usual.SWITCH: switch},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for switch in ("1", "0")
    ]
    assert told[0] == told[1]
    counters = json.loads(told[0])["counters"]
    assert counters["executions"] + counters["failed"] == 400
    assert counters["errors"] == 0
