"""Examples, the pool, inspection and the measurement of cost, driven where there is no GPU. On one they run by hand (tests/gpu)."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_gpu import fake_gpu
from fake_tensorrt import LAYERS, FakeCuda, FakeEngine, trt
from listener import Listener

from layerwatch.cli import engine_cost
from layerwatch.cli.main import cli
from layerwatch.engines import ContextPool, cost, description, measurement

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "shared")
    yield made
    made.close()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "bert.plan"
    path.write_bytes(b"plan")
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_each_example_runs_and_is_watched(
    name: str,
    listener: Listener,
    plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [name, str(plan), "0.2"])
    with fake_gpu(monkeypatch, listener.folder, profiles=2 if "profile" in name else 1) as engines:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "'executions'" in capsys.readouterr().out
    rings = range(4) if name == "several_streams" else range(1)
    assert all(listener.executions(number) for number in rings)
    assert len(engines) == 1
    if "profile" in name:
        assert {e.profile for e in listener.executions()} == {0, 1}
        assert not any(e.flags & 1 for e in listener.executions())


def test_the_pool_has_a_context_for_each_profile_and_picks_the_first_with_room() -> None:
    engine = FakeEngine(FakeCuda(), profiles=3)
    pool = ContextPool(engine, 7, cuda=engine.cuda, trt=trt)
    assert [c.active_optimization_profile for c in pool.contexts] == [0, 1, 2]
    assert engine.cuda.waits == 1
    for length, profile in ((1, 0), (128, 0), (129, 1), (512, 2)):
        context = pool.context({"ids": (8, length)})
        assert context is pool.contexts[profile]
        assert tuple(context.get_tensor_shape("ids")) == (8, length)
    for shapes in ({"ids": (9, 5)}, {"ids": (1, 513)}, {"ids": (1, 2, 3)}, {}):
        with pytest.raises(ValueError, match="no profile has room"):
            pool.context(shapes)


def test_a_pool_that_cannot_be_says_why() -> None:
    engine = FakeEngine(FakeCuda(), profiles=2)
    engine.makes_no_context = True
    with pytest.raises(RuntimeError, match="made no context for profile 0"):
        ContextPool(engine, 7, cuda=engine.cuda, trt=trt)
    taken = FakeEngine(FakeCuda(), profiles=2, shares_profiles=False)
    taken.create_execution_context()
    with pytest.raises(RuntimeError, match="PROFILE_SHARING_0806"):
        ContextPool(taken, 7, cuda=taken.cuda, trt=trt)


def test_doctor_measures_every_tier_on_every_profile_and_path(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpu(monkeypatch, tmp_path / "shared", profiles=2):
        monkeypatch.setattr(cost, "Driver", sys.modules["layerwatch.engines.driver"].Driver)
        done = CliRunner().invoke(
            cli, ["doctor", "--engine", str(plan), "--seconds", "0.01", "--json"], catch_exceptions=False
        )
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    subject = rows.pop(0)
    assert (subject["layers"], subject["profiles"]) == (2 * LAYERS + 1, 2)
    memory = [row for row in rows if row["measure"] == "memory"]
    assert [(row["profile"], row["stated"], row["refused"]) for row in memory] == [
        (0, 64 << 20, ""),
        (1, 64 << 20, ""),
    ]
    tiers = [row for row in rows if row["measure"] == "tiercost"]
    assert {(row["profile"], row["path"], row["tier"], row["rate"]) for row in tiers} == {
        (profile, path, tier, rate)
        for profile in (0, 1)
        for path in ("eager", "graph")
        for tier, rate in cost.TIERS
    }
    assert all(row["plain_ms"] > 0 and row["verdict"] in ("keeps", "exceeds", "uncertain") for row in tiers)
    assert {row["ceiling_pct"] for row in tiers if row["tier"] == "evidence"} == {10}


def test_doctor_speaks_to_people_and_refuses_what_is_no_plan(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.plan"
    other.write_bytes(b"something else")
    with fake_gpu(monkeypatch, tmp_path / "shared"):
        monkeypatch.setattr(cost, "Driver", sys.modules["layerwatch.engines.driver"].Driver)
        done = CliRunner().invoke(cli, ["doctor", "--engine", str(plan), "--seconds", "0.01"])
        refused = CliRunner().invoke(cli, ["doctor", "--engine", str(other)])
        missing = CliRunner().invoke(cli, ["doctor", "--engine", str(tmp_path / "none.plan")])
    assert done.exit_code == 0, done.output
    assert "its twin states 64 MiB of device memory" in done.output
    assert "canary    100.0%" in done.output
    assert "is no plan that TensorRT" in str(refused.exception)
    assert "cannot be read" in str(missing.exception)


def test_doctor_measures_engines_of_tensorrt_8_if_it_is_told_that_they_share_profiles(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpu(monkeypatch, tmp_path / "shared"):
        sys.modules["tensorrt"].__dict__["__version__"] = "8.6.1"
        monkeypatch.setattr(cost, "Driver", sys.modules["layerwatch.engines.driver"].Driver)
        asked = ["doctor", "--engine", str(plan), "--seconds", "0.01"]
        unknown = CliRunner().invoke(cli, asked)
        told = CliRunner().invoke(cli, [*asked, "--shares-profiles"])
    assert (unknown.exit_code, told.exit_code) == (0, 0)
    assert "no layers can be sampled: TensorRT before 10" in unknown.output
    assert "its twin states 64 MiB of device memory" in told.output


def test_the_measurement_samples_at_the_rates_that_it_names(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpu(monkeypatch, tmp_path / "shared") as engines:
        from layerwatch.engines import plans, rig

        made = sys.modules["tensorrt"]
        engine = plans.load(plan, made)
        bench = rig.Rig(sys.modules["layerwatch.engines.driver"].Driver(), engine, made)
        bench.prepare(bench.usual_shapes(0))
        with measurement.watched(engine, plan) as (probe, orders):
            measurement.compare(
                bench, probe, orders, {"none": 0.0, "all": 1.0}, graph=False, executions=10, seconds=1e-9
            )
            counted = probe.counters()
    on_twin = engines[0].contexts[-1].executions
    assert counted["executions"] == 2 * (
        10 + 3 * 11
    )  # two ways: to warm up, and blocks whose first one is not counted
    assert on_twin == 10 + 3 * 11
    assert counted["sampled"] + counted["socket_full"] == on_twin - 1


def test_inspect_tells_what_is_in_a_plan(tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch, tmp_path / "shared"):
        monkeypatch.setattr(description, "CudaDriver", sys.modules["layerwatch.probe.cuda"].CudaDriver)
        done = CliRunner().invoke(cli, ["engine", "inspect", str(plan)], catch_exceptions=False)
    assert "gpu        Fake H200" in done.output
    assert f"profile 0: {LAYERS} layers" in done.output
    assert "blocks.2/attn" in done.output


def _cost(tier: str, rate: float, more_pct: tuple[float, float, float], path: str = "eager") -> cost.TierCost:
    return cost.TierCost(
        0, {"ids": (1, 64)}, path, tier, rate, 1.0, more_pct, 0.0, 0.5 if rate < 0.1 else 10, 9
    )


def test_a_tier_keeps_to_its_ceiling_only_where_the_whole_interval_does() -> None:
    verdicts = [
        _cost("off", 0.0, more).verdict for more in ((0.1, 0.2, 0.5), (0.1, 0.4, 0.6), (0.6, 0.7, 0.8))
    ]
    assert verdicts == ["keeps", "uncertain", "exceeds"]


def test_the_advice_is_the_highest_tier_that_keeps_on_every_path() -> None:
    good, bad = (0.0, 0.1, 0.2), (20.0, 30.0, 40.0)
    costs = [_cost("off", 0.0, good), _cost("evidence", 0.1, good), _cost("canary", 1.0, bad)]
    assert "evidence at 10.0%" in engine_cost.advice(costs)
    assert "off at 0.0%" in engine_cost.advice([*costs, _cost("evidence", 0.1, bad, "graph")])
    assert "No tier is sure" in engine_cost.advice([_cost("off", 0.0, bad)])


def test_it_says_so_where_the_probe_costs_more_than_it_could() -> None:
    whole = cost.Subject(Path("bert.plan"), 12, 1, "Fake H200", "8.6.1", True)
    assert len(list(engine_cost.lines(whole, []))) == 1
    *_, remedy = engine_cost.lines(whole._replace(compiled=False), [])
    assert "compiler" in remedy
