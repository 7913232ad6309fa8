"""Whatever is wrong around the probe, the serving loop goes on, and a counter or a sentence says why."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
from listener import Listener
from waiting import wait_until

from layerwatch.probe import Probe, folder
from layerwatch.schemas import control_page
from layerwatch.schemas.ring import HEADER_BYTES
from layerwatch.schemas.runtimes import MAX_RINGS, SOCKET_NAME

STREAM = 7
TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "shared")
    yield made
    made.close()


def serve(probe: Probe, engine: FakeEngine, times: int) -> None:
    hot = hot_context(engine)
    for _ in range(times):
        with probe.execution(hot, STREAM, {"ids": (1, 32)}) as run:
            run.context.execute_async_v3(STREAM)
            engine.cuda.finish(STREAM)


def make_probe(engine: FakeEngine, shared: Path, **options: Any) -> Probe:
    return Probe(
        engine, service="s", folder=str(shared), trt=trt, cuda=options.pop("cuda", engine.cuda), **options
    )


def test_without_an_agent_executions_are_timed_and_none_is_sampled(tmp_path: Path) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, tmp_path / "shared", rate=1.0)
    serve(probe, engine, 20)
    assert engine.executions == 20
    assert len(engine.contexts) == 1
    counted = probe.counters()
    assert (counted["executions"], counted["no_agent"], counted["sampled"]) == (20, 20, 0)


def test_a_killed_agent_costs_layers_only_and_the_next_one_gets_them(tmp_path: Path) -> None:
    engine = FakeEngine(FakeCuda())
    first = Listener(tmp_path)
    probe = make_probe(engine, tmp_path, rate=1.0)
    serve(probe, engine, 3)
    assert len(first.samples()) == 2
    first.close()
    serve(probe, engine, 5)
    assert probe.counters()["no_agent"] == 5
    (tmp_path / SOCKET_NAME).unlink()
    second = Listener(tmp_path)

    def heard() -> bool:
        serve(probe, engine, 1)
        return bool(second.samples())

    wait_until(heard, "the next agent gets layers", 10)
    second.close()
    counted = probe.counters()
    assert counted["executions"] == engine.executions
    assert counted["errors"] == 0


def test_a_full_socket_drops_and_counts(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=1.0)
    serve(probe, engine, 3000)
    counted = probe.counters()
    taken = len(listener.samples())
    assert counted["socket_full"] > 0
    assert taken == counted["sampled"] == 3000 - 1 - counted["socket_full"]
    assert engine.broken_rules == []


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may do anything, so not as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_without_permission_turns_the_probe_off(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    engine = FakeEngine(FakeCuda())
    with _as_nobody():
        probe = make_probe(engine, tmp_path / "shared")
        serve(probe, engine, 5)
    assert "Permission" in probe.problem
    assert probe.counters()["unwatched"] == 5


@pytest.mark.parametrize("errno_name", ["EACCES", "EROFS", "ENOSPC"])
def test_a_file_system_that_refuses_turns_the_probe_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errno_name: str
) -> None:
    import errno

    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, errno_name), os.strerror(getattr(errno, errno_name)))

    if errno_name == "ENOSPC":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    else:
        monkeypatch.setattr(Path, "mkdir", refuse)
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, tmp_path / "shared")
    serve(probe, engine, 5)
    assert engine.executions == 5
    assert os.strerror(getattr(errno, errno_name)) in probe.problem
    assert probe.counters()["unwatched"] == 5
    assert list(tmp_path.glob("shared/.*")) == []


def test_a_disk_that_is_full_when_a_thread_comes_leaves_that_thread_unwatched(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    serve(probe, engine, 5)
    assert "No space left" in probe.problem
    assert probe.counters()["unwatched"] == 5


def test_without_a_driver_or_tensorrt_the_probe_is_off(tmp_path: Path) -> None:
    engine = FakeEngine(FakeCuda())
    probe = Probe(object(), service="s", folder=str(tmp_path))
    assert "not watched" in probe.problem
    serve(probe, engine, 5)
    assert probe.counters() | {"unwatched": 5} == probe.counters()
    assert probe.twin_bytes() == 0
    assert "FileNotFoundError" in make_probe(engine, tmp_path, plan=str(tmp_path / "absent.plan")).problem


def test_threads_beyond_the_limit_are_unwatched(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    served, done = threading.Barrier(MAX_RINGS + 3), threading.Barrier(MAX_RINGS + 3)

    def work() -> None:
        serve(probe, engine, 1)
        served.wait(60)
        done.wait(60)

    threads = [threading.Thread(target=work) for _ in range(MAX_RINGS + 2)]
    for thread in threads:
        thread.start()
    served.wait(60)
    assert probe.counters()["unwatched"] == 2
    done.wait(60)
    for thread in threads:
        thread.join()
    assert "beyond" in probe.problem


def test_a_defect_of_the_probe_is_counted_and_reaches_nobody(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    serve(probe, engine, 1)
    hot = hot_context(engine)
    with probe.execution(hot, STREAM, {"ids": "nonsense"}) as run:  # type: ignore[dict-item]
        assert run.context is hot
    for name in ("is_idle", "is_capturing"):
        monkeypatch.setattr(engine.cuda, name, lambda stream: 1 / 0)
    listener.order("canary", 1.0)
    serve(probe, engine, 3)
    assert probe.counters()["errors"] == 4
    assert engine.executions == 4


def test_an_order_expires_by_itself(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    listener.order("canary", 1.0, for_s=0.5)
    serve(probe, engine, 3)
    sampled = probe.counters()["sampled"]
    assert sampled == 2
    time.sleep(0.6)
    serve(probe, engine, 50)
    assert probe.counters()["sampled"] == sampled


def test_a_torn_or_senseless_page_leaves_the_former_order(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder, rate=0.0)
    listener.order("canary", 1.0)
    serve(probe, engine, 2)
    page = listener.runtimes()[0] / "control"
    whole = page.read_bytes()
    with page.open("r+b") as file:
        file.seek(control_page.SAMPLING_OFFSET)
        file.write(b"\xff" * 64)
    serve(probe, engine, 2)
    assert probe.counters()["sampled"] == 3
    with page.open("r+b") as file:
        file.write(whole)
    listener.order("off", 0.0)
    listener.order("off", 0.0)  # another generation than the one before
    serve(probe, engine, 20)
    assert probe.counters()["sampled"] == 3


def test_closing_says_goodbye_and_what_runs_afterwards_is_unwatched(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    serve(probe, engine, 3)
    assert not folder.has_ended(listener.runtimes()[0])
    probe.close()
    serve(probe, engine, 2)
    assert folder.has_ended(listener.runtimes()[0])
    assert listener.state() == control_page.LEAVING
    assert (probe.counters()["executions"], probe.counters()["unwatched"]) == (3, 2)


def _run(code: str, shared: Path) -> subprocess.CompletedProcess[str]:
    prelude = f"""
        import os, sys, threading, time
        sys.path.insert(0, {str(TESTS)!r})
        from fake_tensorrt import FakeCuda, FakeEngine, hot_context, trt
        from layerwatch.probe import Probe
        engine = FakeEngine(FakeCuda())
        probe = Probe(engine, service="s", folder={str(shared)!r}, trt=trt, cuda=engine.cuda, rate=1.0)
        hot = hot_context(engine)
        def execute():
            with probe.execution(hot, 7, {{"ids": (1, 32)}}) as run:
                run.context.execute_async_v3(7)
                engine.cuda.finish(7)
        execute()
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(code)
    argv = [sys.executable, "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_forked_child_serves_unwatched_and_its_parent_is_not_taken_for_alive_by_it(
    listener: Listener,
) -> None:
    done = _run(
        """
        with probe.execution(hot, 7, {"ids": (1, 32)}) as run:
            pid = os.fork()  # in the middle of an execution
            run.context.execute_async_v3(7)
            engine.cuda.finish(7)
        for _ in range(3):
            execute()
        if pid == 0:
            os.write(1, b"child %d\\n" % probe.counters()["unwatched"])
            os.close(1), os.close(2)
            time.sleep(3.0)  # outlives its parent
            os._exit(0)
        os.write(1, b"parent %d\\n" % probe.counters()["executions"])
        os._exit(1)
        """,
        listener.folder,
    )
    assert sorted(done.stdout.split("\n")) == ["", "child 3", "parent 5"], done.stderr
    assert [e.position for e in listener.executions()] == list(range(5))
    assert folder.has_ended(listener.runtimes()[0])
    assert listener.state() == control_page.SERVING  # no goodbye: a crash


def test_at_the_interpreters_exit_it_says_goodbye_even_beside_a_thread_at_work(listener: Listener) -> None:
    done = _run(
        """
        def forever():
            while True:
                execute()
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.2)
        """,
        listener.folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert listener.state() == control_page.LEAVING
    assert folder.has_ended(listener.runtimes()[0])


def test_a_killed_process_leaves_whole_records_and_no_lock(listener: Listener) -> None:
    done = _run(
        """
        for _ in range(1000):
            execute()
        os.kill(os.getpid(), 9)
        """,
        listener.folder,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(listener.executions()) == 1001
    assert folder.has_ended(listener.runtimes()[0])
    assert listener.state() == control_page.SERVING


def test_what_nobody_fetched_is_marked_by_the_next_runtime_and_removed_after_an_hour(
    listener: Listener,
) -> None:
    _run("", listener.folder)
    (gone,) = listener.runtimes()
    engine = FakeEngine(FakeCuda())
    keep = make_probe(engine, listener.folder)
    assert gone.exists()
    old_s = time.time() - 3700
    os.utime(gone / "ended", (old_s, old_s))
    make_probe(engine, listener.folder)
    assert not gone.exists()
    assert keep.problem == ""


def test_a_ring_is_as_large_as_it_says_so_that_no_store_can_hit_a_hole(listener: Listener) -> None:
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, listener.folder)
    serve(probe, engine, 1)
    (ring,) = listener.runtimes()[0].glob("ring-*")
    stat = ring.stat()
    assert stat.st_blocks * 512 >= stat.st_size > HEADER_BYTES


def test_a_path_too_long_for_a_socket_is_no_agent(tmp_path: Path) -> None:
    shared = tmp_path / ("x" * 120)
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(str(shared / SOCKET_NAME))
    engine = FakeEngine(FakeCuda())
    probe = make_probe(engine, shared, rate=1.0)
    serve(probe, engine, 3)
    counted = probe.counters()
    assert (counted["executions"], counted["no_agent"]) == (3, 3)
