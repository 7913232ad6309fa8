"""The study of forecasts against utilisation: a queue that is simulated right, traces as they are published, a fair comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from layerwatch.cli.capacity import command
from layerwatch.detectors.load.block import BLOCK_S, LoadBlock
from layerwatch.evaluation.capacity.simulation import simulate
from layerwatch.evaluation.capacity.study import compare
from layerwatch.evaluation.capacity.traces import Arrivals, read
from layerwatch.schemas.errors import ConfigError


def _steady(n: int = 2000, rate: float = 2.0, seed: int = 0) -> Arrivals:
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.exponential(1 / rate, n))
    return Arrivals("steady", times - times[0], draw.gamma(4, 0.5, n))


def _azure(path: Path, n: int = 600) -> Path:
    rows = [f"2023-11-16 18:{15 + i // 60:02}:{i % 60:02}.6805900,{300 + i},{20 + i % 7}" for i in range(n)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    return path


def _mooncake(path: Path, n: int = 600) -> Path:
    rows = [
        {"timestamp": 1000 * i, "input_length": 6758, "output_length": 500, "hash_ids": [0]} for i in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


class TestSimulation:
    def test_requests_wait_in_order_for_the_one_replica(self) -> None:
        arrivals = Arrivals("three", np.array([0.0, 1.0, 2.0]), np.array([4.0, 4.0, 4.0]))
        out = simulate(arrivals, lambda block, ordered: ordered, 60, target_s=6.5, first=1)
        assert out.arrived.sum() == 3
        assert out.late.sum() == 2, "they take 4, 7 and 10 s"

    def test_a_replica_serves_once_it_has_started(self) -> None:
        arrivals = Arrivals("waiting", np.zeros(6), np.full(6, 60.0))
        arrivals.times_s[-1] = 200.0  # so that the simulation goes on
        late = {
            startup_s: simulate(arrivals, lambda block, ordered: 5, startup_s, 200.0, 1).late.sum()
            for startup_s in (30.0, 180.0)
        }
        assert late == {30.0: 0, 180.0: 2}

    def test_a_replica_that_is_taken_away_finishes_what_it_does(self) -> None:
        arrivals = Arrivals("draining", np.array([0.0, 0.0, 100.0]), np.array([40.0, 40.0, 1.0]))
        out = simulate(arrivals, lambda block, ordered: 1, 60, 41.0, 2)
        assert out.late.sum() == 0
        assert out.replica_s[:4].tolist() == [2 * BLOCK_S, 2 * BLOCK_S, 2 * BLOCK_S, BLOCK_S]

    def test_a_policy_sees_busy_time_while_it_passes(self) -> None:
        seen: list[LoadBlock] = []

        def policy(block: LoadBlock, ordered: int) -> int:
            seen.append(block)
            return ordered

        simulate(Arrivals("long", np.array([0.0, 60.0]), np.array([40.0, 1.0])), policy, 60, 99.0, 1)
        assert [block.busy_s for block in seen[:4]] == [15.0, 15.0, 10.0, 0.0]
        assert [block.executions for block in seen[:4]] == [0, 0, 1, 0]


class TestTraces:
    def test_both_published_forms_are_read(self, tmp_path: Path) -> None:
        azure, mooncake = read(_azure(tmp_path / "a.csv")), read(_mooncake(tmp_path / "m.jsonl"))
        assert azure.times_s[[0, -1]].tolist() == mooncake.times_s[[0, -1]].tolist() == [0.0, 599.0]
        assert azure.service_s[0] == pytest.approx(300 / 5000 + 20 / 50)
        assert mooncake.service_s[0] == pytest.approx(6758 / 5000 + 500 / 50)

    def test_a_folder_of_rates_is_drawn_the_same_each_time(self, tmp_path: Path) -> None:
        folder = tmp_path / "language" / "m"
        folder.mkdir(parents=True)
        for client in range(3):
            rows = [f"{600 * i},{1 + i % 3},2.0,Gamma,0.2,1.0" for i in range(12)]
            (folder / f"chunk-{client}-trace.csv").write_text("\n".join(rows))
        first, second = read(folder), read(folder)
        assert first.name == "language-m"
        assert len(first.times_s) / first.times_s[-1] == pytest.approx(5.0, rel=0.2)
        np.testing.assert_array_equal(first.times_s, second.times_s)

    @pytest.mark.parametrize("text", ["", "TIMESTAMP,ContextTokens\nnot a time,1\n", "a,b\n1,2\n"])
    def test_other_files_are_refused_with_where_traces_are(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "x.csv"
        path.write_text(text)
        with pytest.raises(ConfigError, match="AzurePublicDataset"):
            read(path)

    def test_a_trace_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="10 arrivals are too few"):
            read(_azure(tmp_path / "a.csv", 10))


def test_a_steady_load_costs_less_and_is_no_later_than_a_utilisation_that_was_tuned_for_bursts() -> None:
    draw = np.random.default_rng(3)
    bursts = np.sort(np.concatenate([draw.uniform(s, s + 40, 120) for s in range(60, 2400, 240)]))
    bursty = Arrivals("bursty", bursts - bursts[0], draw.gamma(4, 0.5, len(bursts)))
    (row,) = compare(bursty, [_steady(12_000)], [60.0], None)
    assert row.tuning.utilisation <= 0.6
    assert row.hours < 0.9 * row.reactive_hours
    assert row.hours_difference.low <= row.hours_difference.value <= row.hours_difference.high < 0
    assert row.late_difference.high < 0.2, "percentage points"


def test_the_command_shows_each_trace_at_each_start_up_time(tmp_path: Path) -> None:
    names = [str(_azure(tmp_path / "a.csv")), str(_mooncake(tmp_path / "m.jsonl"))]
    told = CliRunner().invoke(command, [*names, "--startup", "60", "--startup", "180"])
    assert told.exit_code == 0, told.output
    lines = [line for line in told.stdout.splitlines() if " s  m " in line]
    assert len(lines) == 2
    rows = json.loads(CliRunner().invoke(command, [*names, "--startup", "60", "--json"]).stdout)
    assert rows[0]["requests"] == 600
