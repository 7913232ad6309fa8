"""The benchmark's score, on files small enough to do by hand."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def nab() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "nab_score.py"
    spec = importlib.util.spec_from_file_location("nab_score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nab_score"] = module
    spec.loader.exec_module(module)
    return module


def scored(nab: ModuleType, detections: list[int], windows: list[list[int]]) -> float:
    file = nab.Series("f", np.zeros(100), np.array(windows).reshape(-1, 2))
    scores = np.zeros(100)
    scores[detections] = 1.0
    score, _ = nab.nab_score([file], {"f": scores})
    return float(score)


def sigmoid(x: float) -> float:
    return 2 / (1 + math.exp(5 * x)) - 1


def test_a_detection_at_the_first_row_of_the_only_window_is_perfect(nab: ModuleType) -> None:
    assert scored(nab, [40], [[40, 49]]) == pytest.approx(100.0)


def test_silence_is_worth_nothing(nab: ModuleType) -> None:
    assert scored(nab, [], [[40, 49]]) == pytest.approx(0.0)


def test_later_in_a_window_is_worth_less_and_a_second_one_nothing(nab: ModuleType) -> None:
    late = 100 * (1 + sigmoid(-0.5) / sigmoid(-1.0)) / 2
    assert scored(nab, [45], [[40, 49]]) == pytest.approx(late)
    assert scored(nab, [45, 47], [[40, 49]]) == pytest.approx(late)


def test_one_outside_costs_more_the_farther_it_is(nab: ModuleType) -> None:
    far, near = scored(nab, [40, 99], [[40, 49]]), scored(nab, [40, 51], [[40, 49]])
    assert far == pytest.approx(100 - 50 * 0.11)
    assert near == pytest.approx(100 + 50 * 0.11 * sigmoid(2 / 9))


def test_what_comes_in_the_first_rows_is_not_scored(nab: ModuleType) -> None:
    assert scored(nab, [3, 14, 40], [[40, 49]]) == pytest.approx(100.0)


def test_files_are_read_with_their_windows(nab: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "data" / "kind").mkdir(parents=True)
    rows = [f"2014-01-01 00:{i:02d}:00,{i}.5" for i in range(60)]
    (tmp_path / "data" / "kind" / "one.csv").write_text("\n".join(["timestamp,value", *rows]))
    window = ["2014-01-01 00:20:00.000000", "2014-01-01 00:29:00.000000"]
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps({"kind/one.csv": [window]}))
    (file,) = nab.corpus(tmp_path)
    assert file.windows.tolist() == [[20, 29]]
    assert file.values[3] == 3.5
    assert file.probation == 9
