"""The probe, driven by a fake of TensorRT and CUDA: what it records, what it samples, and what it never does."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import LAYERS, FakeContext, FakeCuda, FakeEngine, hot_context, trt, trt_8
from hypothesis import given, settings
from hypothesis import strategies as st
from listener import Listener

from layerwatch.probe import Probe, known_shapes, lane
from layerwatch.schemas.build_notes import BuildNotes, file_sha256, notes_path
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, SWITCHED_PROFILE
from layerwatch.schemas.ring import SAMPLED, UNKNOWN_NS

STREAM = 7


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "shared")
    yield made
    made.close()


def make_probe(engine: Any, folder: Path, **options: Any) -> Probe:
    return Probe(
        engine,
        service="bert-qa",
        folder=str(folder),
        trt=options.pop("trt", trt),
        cuda=options.pop("cuda", engine.cuda),
        **options,
    )


def execute(
    probe: Probe,
    context: FakeContext,
    shape: tuple[int, int] = (1, 32),
    *,
    stream: int = STREAM,
    waits: bool = True,
    times: int = 1,
) -> None:
    """As a caller would: its graph, or the twin where it is sampled; then wait for the results."""
    for _ in range(times):
        context.set_input_shape("ids", shape)
        with probe.execution(context, stream, {"ids": shape}) as run:
            run.context.execute_async_v3(stream)
            if waits:
                context.engine.cuda.finish(stream)


def test_every_execution_leaves_a_record_with_its_shape_and_time(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    context = hot_context(engine)
    execute(probe, context, (1, 32), times=2)
    execute(probe, context, (4, 128))
    found = listener.executions()
    assert [e.dimensions for e in found] == [(1, 32), (1, 32), (4, 128)]
    assert [e.since_change for e in found] == [0, 1, 0]
    assert {(e.profile, e.flags, e.context, e.host_ns) for e in found} == {(0, 0, 0, UNKNOWN_NS)}
    assert all(0 < e.end_to_end_ns < 60e9 for e in found)
    assert [e.end_unix_ns for e in found] == sorted(e.end_unix_ns for e in found)
    assert probe.counters()["executions"] == engine.executions == 3
    about = listener.about()
    assert (about.service, about.gpu, about.gpu_model) == ("bert-qa", "GPU-fake", "Fake H200")
    assert [(i.name, i.rank) for i in about.inputs] == [("ids", 2)]
    assert about.engine == listener.manifest().engine


def test_a_sampled_execution_runs_once_on_the_twin_with_the_callers_tensors(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine)
    engine.cuda.memory[hot.addresses["ids"]] = 41
    listener.order("canary", 1.0)
    execute(probe, hot, times=3)
    assert engine.executions == 3
    assert hot.executions == 0
    assert hot.profiler is None
    assert engine.cuda.memory[hot.addresses["out"]] == 42
    assert engine.broken_rules == []
    samples = listener.samples()
    assert [(s.ring, s.position, s.profile) for s in samples] == [(0, 1, 0), (0, 2, 0)]  # the first warms up
    assert listener.layer_times(samples[0]) == pytest.approx([0.01 + n / 1000 for n in range(LAYERS)])
    found = listener.executions()
    assert [e.flags for e in found] == [ON_TWIN, ON_TWIN | SAMPLED, ON_TWIN | SAMPLED]
    assert [e.since_change for e in found] == [0, 1, 2]
    counted = probe.counters()
    assert (counted["sampled"], counted["warm_up"], counted["errors"]) == (2, 1, 0)
    assert counted["overhead_ns"] > 0


def test_no_device_memory_is_taken_until_something_is_sampled(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("off", 0.0)
    execute(probe, hot_context(engine), times=50)
    assert len(engine.contexts) == 1
    assert probe.twin_bytes() == 64 << 20
    listener.order("canary", 1.0)
    execute(probe, engine.contexts[0], times=50)
    assert len(engine.contexts) == 2


def test_a_caller_who_does_not_wait_in_the_block_is_waited_for_outside_of_the_interpreter_lock(
    listener: Listener,
) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    execute(probe, hot_context(engine), waits=False, times=3)
    assert engine.cuda.waits == 3
    assert engine.broken_rules == []
    assert len(listener.samples()) == 2


def test_without_waiting_events_time_the_gpu_and_layers_come_at_a_later_call(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, waits=False)
    hot = hot_context(engine)
    listener.order("canary", 1.0)
    execute(probe, hot, waits=False)
    assert listener.executions() == []
    execute(probe, hot, waits=False)  # the twin is still busy: this one runs hot
    assert (listener.executions(), engine.cuda.waits) == ([], 0)
    engine.cuda.finish(STREAM)
    execute(probe, hot, waits=False)
    found = listener.executions()
    assert [e.flags & ON_TWIN for e in found] == [ON_TWIN, 0]
    assert all(e.host_ns < 60e9 for e in found)
    assert probe.counters()["twin_busy"] == 1
    assert engine.broken_rules == []
    engine.cuda.finish(STREAM)
    execute(probe, hot, waits=False)
    assert [s.position for s in listener.samples()] == [2]


def test_executions_that_never_end_are_bounded_and_counted(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, waits=False)
    hot = hot_context(engine)
    execute(probe, hot, waits=False, times=100)
    assert probe.counters()["untimed"] == 100 - 64
    engine.cuda.finish(STREAM)
    execute(probe, hot, waits=False)
    assert len(listener.executions()) == 64


def test_a_graph_is_launched_unless_it_is_sampled_and_says_so(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine)
    with probe.execution(hot, STREAM, {"ids": (1, 32)}, graph=True) as run:
        assert run.context is hot
        assert not run.sampled
        run.launched()
    listener.order("canary", 1.0)
    with probe.execution(hot, STREAM, {"ids": (1, 32)}, graph=True) as run:
        assert run.sampled
        run.context.execute_async_v3(STREAM)
    first, second = listener.executions()
    assert (first.flags, second.flags & (IN_GRAPH | ON_TWIN)) == (IN_GRAPH, ON_TWIN)
    assert first.host_ns <= first.end_to_end_ns


def test_nothing_is_sampled_while_a_graph_is_captured(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    engine.cuda.capturing.add(STREAM)
    hot = hot_context(engine)
    execute(probe, hot)
    assert hot.executions == 1


def test_each_profile_has_a_twin_and_a_switch_is_flagged(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda(), profiles=2)
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    hot = hot_context(engine)
    execute(probe, hot, times=2)
    hot.set_optimization_profile_async(1, STREAM)
    execute(probe, hot, (1, 256), times=2)
    assert len(engine.contexts) == 3
    assert [(s.profile, len(s.times_ms) // 4) for s in listener.samples()] == [(0, LAYERS), (1, LAYERS + 1)]
    assert [bool(e.flags & SWITCHED_PROFILE) for e in listener.executions()] == [False, False, True, False]
    assert [p.profile for p in listener.manifest().profiles] == [0, 1]


def test_an_engine_built_without_names_is_described_by_its_profiler(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda(), names=False)
    probe = make_probe(engine, listener.folder)
    assert listener.manifest().profiles == []
    listener.order("canary", 1.0)
    execute(probe, hot_context(engine), times=3)
    (profile,) = listener.manifest().profiles
    assert [layer.name for layer in profile.layers] == [str(n) for n in range(LAYERS)]
    assert len(listener.samples()) == 2


def test_an_execution_with_another_number_of_layers_is_no_sample(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    hot = hot_context(engine)
    execute(probe, hot, times=2)
    engine.extra_layers = 3
    execute(probe, hot)
    engine.reports_nothing = True
    execute(probe, hot)
    assert len(listener.samples()) == 1
    counted = probe.counters()
    assert (counted["layer_count"], counted["not_reported"]) == (1, 1)
    assert len(listener.executions()) == 4


@pytest.mark.parametrize("fault", ["memory", "profile", "none"])
def test_a_twin_that_cannot_be_had_is_refused_once_and_counted(listener: Listener, fault: str) -> None:
    cuda = FakeCuda(free_bytes=100 << 20 if fault == "memory" else 8 << 30)
    engine = FakeEngine(cuda, shares_profiles=fault != "profile")
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine)
    engine.makes_no_context = fault == "none"
    listener.order("canary", 1.0)
    execute(probe, hot, times=5)
    assert hot.executions == 5
    assert probe.counters()["twin_refused"] == 5
    words = {"memory": "must stay free", "profile": "takes only one context", "none": "no second context"}
    assert words[fault] in probe.refusals[0]


def test_before_tensorrt_10_no_second_context_is_asked_for_where_profiles_may_not_be_shared(
    listener: Listener,
) -> None:
    engine = FakeEngine(FakeCuda(), shares_profiles=False)
    probe = make_probe(engine, listener.folder, trt=trt_8)
    hot = hot_context(engine)
    listener.order("canary", 1.0)
    execute(probe, hot, times=5)
    assert (hot.executions, engine.contexts) == (5, [hot])
    assert probe.counters()["twin_refused"] == 5
    assert "shares_profiles=True" in probe.refusals[0]


@pytest.mark.parametrize("known", ["said", "noted", "fixed"])
def test_before_tensorrt_10_layers_are_sampled_where_profiles_are_surely_shared(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    plan = tmp_path / "bert.plan"
    plan.write_bytes(b"plan")
    engine = FakeEngine(FakeCuda())
    if known == "noted":
        notes = BuildNotes(
            plan_sha256=file_sha256(plan), model="m", model_sha256="", tensorrt="8.6.1", precision="fp16"
        )
        notes_path(plan).write_bytes(encode_json(notes))
    if known == "fixed":
        monkeypatch.setattr(FakeEngine, "get_tensor_shape", lambda self, name: (1, 32))
    probe = make_probe(engine, listener.folder, trt=trt_8, plan=str(plan), shares_profiles=known == "said")
    listener.order("canary", 1.0)
    execute(probe, hot_context(engine), times=5)
    assert probe.refusals == {}
    assert len(listener.samples()) == 4


def test_a_twin_that_refuses_the_shapes_leaves_the_execution_to_the_hot_context(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    engine.refuses_shapes = True
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    hot = hot_context(engine)
    execute(probe, hot, times=20)
    assert hot.executions == 20
    counted = probe.counters()
    assert (counted["twin_failed"], counted["twin_refused"]) == (8, 12)
    assert len(listener.executions()) == 20


def test_a_context_that_is_destroyed_while_it_is_sampled_costs_its_caller_nothing(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    hot = hot_context(engine)
    with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
        hot.destroy()
        run.context.execute_async_v3(STREAM)
    assert engine.executions == 1
    with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
        assert run.context is hot  # the twin could not take over from it
    assert probe.counters()["twin_failed"] == 1
    assert len(listener.executions()) == 2


def test_what_the_caller_raises_reaches_the_caller_and_is_no_record(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    hot = hot_context(engine)

    def fail() -> None:
        with probe.execution(hot, STREAM, {"ids": (1, 32)}):
            raise KeyError("the caller's")

    with pytest.raises(KeyError, match="the caller's"):
        fail()
    assert probe.counters()["failed"] == 1
    execute(probe, hot, times=2)  # the twin was given back
    assert engine.broken_rules == []
    assert [e.flags & ON_TWIN for e in listener.executions()] == [ON_TWIN, ON_TWIN]


def test_two_executions_side_by_side_in_one_thread_do_not_share_the_twin(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("canary", 1.0)
    one, other = hot_context(engine), hot_context(engine)
    with probe.execution(one, 1, {"ids": (1, 32)}) as first:
        with probe.execution(other, 2, {"ids": (1, 32)}) as second:
            assert first.context is not one
            assert second.context is other
            second.context.execute_async_v3(2)
        first.context.execute_async_v3(1)
    assert probe.counters()["twin_busy"] == 1
    assert min(e.context for e in listener.executions()) == 1


def test_threads_have_rings_of_their_own_and_a_ring_is_passed_on(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    listener.order("evidence", 0.3)
    together = threading.Barrier(4)

    def serve(number: int) -> None:
        hot = hot_context(engine, (number + 1, 32))
        together.wait()
        execute(probe, hot, (number + 1, 32), stream=number, times=200)
        together.wait()

    for _ in range(2):  # the second four threads take over from the first
        threads = [threading.Thread(target=serve, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert probe.counters()["executions"] == engine.executions == 1600
    shapes = Counter(e.dimensions for n in range(4) for e in listener.executions(n))
    assert shapes == {(n, 32): 400 for n in range(1, 5)}
    assert not (listener.runtimes()[0] / "ring-004").exists()
    assert engine.broken_rules == []


def test_several_engines_in_one_process_are_several_runtimes(listener: Listener) -> None:
    engines = [FakeEngine(FakeCuda()), FakeEngine(FakeCuda(), profiles=2)]
    probes = [make_probe(engine, listener.folder) for engine in engines]
    for probe, engine in zip(probes, engines, strict=True):
        execute(probe, hot_context(engine))
    abouts = [listener.about(path) for path in listener.runtimes()]
    assert len({about.instance for about in abouts}) == len({about.engine for about in abouts}) == 2


def test_shapes_may_be_lists_or_left_to_the_context(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine, (3, 64))
    for shapes in ({"ids": [3, 64]}, None, {"ids": (3, 64)}):
        with probe.execution(hot, STREAM, shapes) as run:
            run.context.execute_async_v3(STREAM)
    assert {e.dimensions for e in listener.executions()} == {(3, 64)}


def test_a_ring_that_wrapped_holds_the_newest(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    execute(probe, hot_context(engine), times=8192 + 10)
    assert [e.position for e in listener.executions()] == list(range(10, 8202))


def _launch(probe: Probe, hot: FakeContext, times: int = 1) -> None:
    """As `execute`, of a caller who says when the work is enqueued."""
    for _ in range(times):
        with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
            run.context.execute_async_v3(STREAM)
            run.launched()
            hot.engine.cuda.finish(STREAM)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executions follow upon one another, however slow this machine is."""
    monkeypatch.setattr(lane, "_BUSY_NS", 1 << 62)


@pytest.mark.usefixtures("busy")
def test_a_busy_thread_writes_a_record_while_the_gpu_is_at_the_next_execution(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)
    _launch(probe, hot, times=3)
    assert len(listener.executions()) == 2
    assert probe.counters()["executions"] == 3
    with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
        assert len(listener.executions()) == 2
        run.launched()
        assert len(listener.executions()) == 3
    listener.order("canary", 1.0)
    _launch(probe, hot, times=3)
    assert len(listener.executions()) == 6
    assert probe.counters()["executions"] == 7
    listener.order("off", 0.0)
    _launch(probe, hot)
    found = listener.executions()
    assert [e.flags & ON_TWIN for e in found[:7]] == [0, 0, 0, 0, ON_TWIN, ON_TWIN, ON_TWIN]
    assert [s.position for s in listener.samples()] == [5, 6]
    assert [e.end_unix_ns for e in found] == sorted(e.end_unix_ns for e in found)
    assert all(e.host_ns <= e.end_to_end_ns < 60e9 for e in found)
    assert probe.counters()["errors"] == 0


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("then", ["launched", "silent", "raises", "sampled", "close", "thread"])
def test_the_layers_of_a_busy_thread_are_fetched_while_the_gpu_is_at_the_next_execution(
    listener: Listener, then: str
) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)

    def serve() -> None:
        listener.order("off", 0.0)
        _launch(probe, hot, times=2)
        listener.order("canary", 1.0)
        _launch(probe, hot, times=2)

    if then == "thread":
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
    else:
        serve()
        assert (len(listener.executions()), listener.samples()) == (3, [])
        assert probe.counters()["executions"] == 4
    if then == "close":
        probe.close()
    elif then == "sampled":
        _launch(probe, hot)
    elif then != "thread":
        listener.order("off", 0.0)
        with contextlib.suppress(ZeroDivisionError), probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
            run.context.execute_async_v3(STREAM)
            if then == "launched":
                run.launched()
                assert [s.position for s in listener.samples()] == [3]
            engine.cuda.finish(STREAM)
            if then == "raises":
                raise ZeroDivisionError
    fetched = then not in ("close", "thread")
    assert [s.position for s in listener.samples()] == ([3] if fetched and then != "launched" else [])
    fourth = listener.executions()[3]
    assert fourth.flags == (ON_TWIN | SAMPLED if fetched else ON_TWIN)
    assert probe.counters()["errors"] == 0
    assert engine.broken_rules == []


@pytest.mark.usefixtures("busy")
def test_layers_are_fetched_at_once_where_the_gpu_is_done_too_soon_to_hide_it(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another execution it takes longer, which only pays while the GPU is busy for longer still."""
    monkeypatch.setattr(lane, "_AT_ONCE", 3)
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)

    def serve(*, hidden: bool) -> list[int]:
        """Sampled, then usual: how many samples there are after each."""
        counts = []
        for tier, rate in (("canary", 1.0), ("off", 0.0)):
            listener.order(tier, rate)
            with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
                run.context.execute_async_v3(STREAM)
                if not hidden:
                    monkeypatch.setattr(FakeContext, "report_to_profiler", report_until_done)
                run.launched()
                monkeypatch.setattr(FakeContext, "report_to_profiler", report)
                engine.cuda.finish(STREAM)
            counts.append(len(listener.samples()))
        return counts

    report = FakeContext.report_to_profiler

    def report_until_done(context: FakeContext) -> bool:
        reported = report(context)
        engine.cuda.finish(STREAM)
        return reported

    serve(hidden=True)  # the twin warms up
    assert [serve(hidden=True) for _ in range(2)] == 2 * [[0, 1]]
    settled = engine.cuda.settled
    assert serve(hidden=False) == [0, 1]
    assert engine.cuda.settled == settled
    assert [serve(hidden=True) for _ in range(3)] == 3 * [[1, 0]]
    assert engine.cuda.settled == settled + 3
    assert [serve(hidden=True) for _ in range(2)] == 2 * [[0, 1]]
    assert engine.broken_rules == []
    assert probe.counters()["errors"] == 0


@pytest.mark.usefixtures("busy")
def test_nothing_is_fetched_from_a_stream_that_may_be_gone(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)
    listener.order("canary", 1.0)
    for stream in range(20, 25):  # one for each request
        with probe.execution(hot, stream, {"ids": (1, 32)}) as run:
            run.context.execute_async_v3(stream)
            run.launched()
            engine.cuda.finish(stream)
        engine.cuda.gone.add(stream)
    assert engine.broken_rules == []
    assert [e.flags for e in listener.executions()] == [
        ON_TWIN,
        *4 * [ON_TWIN | SAMPLED],
    ]  # once lost, never deferred again
    counted = probe.counters()
    assert (counted["not_reported"], counted["sampled"], counted["errors"]) == (1, 4, 0)


def test_a_thread_that_is_not_busy_leaves_nothing_for_later(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_BUSY_NS", 0)
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    _launch(probe, hot_context(engine), times=3)
    assert len(listener.executions()) == 3


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("end", ["close", "thread", "failure", "silent"])
def test_what_a_busy_thread_has_left_is_written_before_anything_else_happens(
    listener: Listener, end: str
) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)
    if end == "thread":
        thread = threading.Thread(target=_launch, args=(probe, hot, 3))
        thread.start()
        thread.join()
    else:
        _launch(probe, hot, 3)
    if end == "close":
        probe.close()
    elif end == "failure":
        with pytest.raises(KeyError), probe.execution(hot, STREAM, {"ids": (1, 32)}):
            raise KeyError
    elif end == "silent":
        execute(probe, hot)
    found = listener.executions()
    assert [e.position for e in found] == list(range(4 if end == "silent" else 3))
    assert [e.end_unix_ns for e in found] == sorted(e.end_unix_ns for e in found)


@pytest.mark.usefixtures("busy")
def test_a_record_that_waits_keeps_no_context_alive(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    hot = hot_context(engine)
    _launch(probe, hot, 3)
    kept = weakref.ref(hot)
    hot.destroy()
    del hot
    assert kept() is None


def test_shapes_that_cannot_be_compared_are_counted_and_watched_again(listener: Listener) -> None:
    class Array(list[int]):
        """As numpy's."""

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine)
    execute(probe, hot, times=2)
    for _ in range(5):
        with probe.execution(hot, STREAM, {"ids": Array([1, 32])}):
            pass
    assert probe.counters()["errors"] == 1
    assert {e.dimensions for e in listener.executions()} == {(1, 32)}
    assert len(listener.executions()) == 7


@settings(max_examples=30, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([16, 32, 64, 200])), max_size=60
    ),
    rate=st.sampled_from([0.0, 0.05, 0.3]),
    profiles=st.integers(1, 2),
)
def test_the_short_way_writes_the_same_records_as_the_long_one(
    runs: list[tuple[int, int, int]], rate: float, profiles: int
) -> None:
    """Shapes given as lists are never known beforehand; as tuples, they are from their second time on."""
    told = []
    for kind in (tuple, list):
        with tempfile.TemporaryDirectory() as folder:
            listener = Listener(Path(folder) / "shared")
            engine = FakeEngine(FakeCuda(), profiles=profiles)
            probe = make_probe(engine, listener.folder, rate=rate)
            contexts = [hot_context(engine), hot_context(engine)]
            for number, profile, length in runs:
                context = contexts[number]
                context.set_optimization_profile_async(profile % profiles, STREAM)
                context.set_input_shape("ids", (1, length))
                with probe.execution(context, STREAM, {"ids": kind((1, length))}) as run:
                    run.context.execute_async_v3(STREAM)
                    run.launched()
                    engine.cuda.finish(STREAM)
            probe.close()
            told.append(
                [
                    (e.dimensions, e.profile, e.flags, e.context, e.since_change)
                    for e in (listener.executions() if runs else [])
                ]
            )
            assert probe.counters()["errors"] == 0
            listener.close()
    assert len(told[0]) == len(runs)
    assert told[0] == told[1]


def test_the_shapes_that_a_context_remembers_are_bounded(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_shapes, "_MAX_OTHERS", 3)
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    hot = hot_context(engine)
    for length in [*range(1, 10), *range(1, 10)]:
        execute(probe, hot, (1, length))
    assert [e.dimensions for e in listener.executions()] == 2 * [(1, n) for n in range(1, 10)]
    assert probe._watch is not None
    (seen,) = probe._watch.lanes[0].seen.values()
    assert len(seen.others) <= 3


@pytest.mark.usefixtures("busy")
def test_busy_threads_lose_no_record_when_they_end_and_others_take_over(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    for _ in range(3):
        threads = [threading.Thread(target=_launch, args=(probe, hot_context(engine), 100)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [listener.executions(ring.number) for ring in (lane.ring for lane in _lanes(probe))]
    assert sum(map(len, found)) == probe.counters()["executions"] == 1200
    for executions in found:
        assert [e.position for e in executions] == list(range(len(executions)))


def _lanes(probe: Probe) -> list[lane.Lane]:
    assert probe._watch is not None
    return probe._watch.lanes
