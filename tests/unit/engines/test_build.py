"""`layerwatch engine build`: what TensorRT is told, what is left beside the plan, and what is refused with a remedy.

TensorRT's builder needs a GPU, so a fake of it is told here. On an H200 with 8.6 the same command built all three precisions.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_builder import tensorrt
from fake_tensorrt import FakeCuda, FakeEngine, trt
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.cli.main import cli
from layerwatch.engines import build, plans, ranges
from layerwatch.probe.engine_facts import engine_facts
from layerwatch.schemas.build_notes import SUFFIX, file_sha256, read_notes
from layerwatch.schemas.errors import ConfigError

DATA = Path(__file__).resolve().parents[2] / "data"
BERT = {"ids": [-1, -1], "mask": [-1, -1]}
PLAIN = [{"type": "CONVOLUTION", "inputs": ["ids"], "outputs": ["y"]}]
QUANTIZED = [
    {"type": "CONSTANT", "outputs": ["s"], "value": [0.05]},
    {"type": "CONSTANT", "outputs": ["per_channel"], "value": [0.1, 0.2]},
    {"type": "QUANTIZE", "inputs": ["ids", "s"], "outputs": ["q"]},
    {"type": "QUANTIZE", "inputs": ["w", "per_channel"], "outputs": ["qw"]},
]


def _model(folder: Path, layers: Any = PLAIN, inputs: Any = BERT) -> Path:
    path = folder / "bert.onnx"
    path.write_text(json.dumps({"inputs": inputs, "layers": layers}))
    return path


def _run(monkeypatch: pytest.MonkeyPatch, *argv: object, **fake: bool) -> Result:
    monkeypatch.setattr(plans, "tensorrt", lambda: tensorrt(**fake))
    return CliRunner().invoke(cli, ["engine", "build", *map(str, argv)])


RANGES = ("--batch", "1:1:8", "--length", "1:64:128", "--length", "129:512")


def test_each_length_is_a_profile_and_names_are_detailed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _run(monkeypatch, _model(tmp_path), *RANGES)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "bert.fp16.plan").read_text())
    assert (told["flags"], told["preview"], told["profiling_verbosity"]) == (
        ["fp16"],
        ["sharing"],
        "detailed",
    )
    assert told["profiles"] == [
        {name: [[1, 1], [1, 64], [8, 128]] for name in BERT},
        {name: [[1, 129], [1, 512], [8, 512]] for name in BERT},
    ]
    assert "2 profiles" in done.output
    assert list(tmp_path.glob(".*")) == []


def test_all_three_precisions_come_from_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "bert.cache"
    cache.write_text(
        f"TRT-8601-EntropyCalibration2\nids: {struct.pack('>f', 0.5).hex()}\ny: 3d800000\nnone: 00000000\n"
    )
    done = _run(monkeypatch, _model(tmp_path), *RANGES, "--precision", "all", "--calibration", cache)
    assert done.exit_code == 0, done.output
    told = {p: json.loads((tmp_path / f"bert.{p}.plan").read_text()) for p in build.PRECISIONS}
    assert {p: found["flags"] for p, found in told.items()} == {
        "fp32": [],
        "fp16": ["fp16"],
        "int8": ["fp16", "int8"],
    }
    assert told["int8"]["ranges"] == {"ids": [-63.5, 63.5], "y": [-7.9375, 7.9375]}
    assert told["fp16"]["ranges"] == {}
    plan = tmp_path / "bert.int8.plan"
    notes = read_notes(plan, file_sha256(plan))
    assert notes is not None
    assert (notes.model, notes.precision, notes.tensorrt) == ("bert.onnx", "int8", "8.6.0-fake")
    assert [(r.name, r.amax) for r in notes.ranges] == [("ids", 63.5), ("y", 7.9375)]
    assert [[shape.most for shape in profile] for profile in notes.profiles] == [
        [[8, 128], [8, 128]],
        [[8, 512], [8, 512]],
    ]


def test_a_model_with_quantize_nodes_needs_no_cache_and_tells_its_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _run(
        monkeypatch, _model(tmp_path, QUANTIZED), *RANGES, "--precision", "int8", "--out", tmp_path / "x.plan"
    )
    assert done.exit_code == 0, done.output
    notes = read_notes(tmp_path / "x.plan", file_sha256(tmp_path / "x.plan"))
    assert notes is not None
    assert [r.name for r in notes.ranges] == ["ids"]
    assert notes.ranges[0].amax == pytest.approx(6.35)


def test_the_probe_takes_up_ranges_of_the_very_plan_and_of_no_other(tmp_path: Path) -> None:
    plan = tmp_path / "int8.plan"
    plan.write_bytes(b"some plan")
    real = json.loads((DATA / "encoder1-int8-h200.plan.notes.json").read_text())
    engine = FakeEngine(FakeCuda())

    def found() -> int:
        return len(engine_facts(engine, trt, service="s", gpu_model="g", plan=str(plan)).manifest.ranges)

    notes = plan.with_name(plan.name + SUFFIX)
    assert found() == 0
    notes.write_text(json.dumps(real))
    assert found() == 0
    notes.write_text(json.dumps(real | {"plan_sha256": file_sha256(plan)}))
    assert found() == 143
    notes.write_text("{")
    assert found() == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "add --batch 1:1:8"),
        (("--batch", "1:1:8"), "add --length 1:128:512"),
        (("--batch", "8:1"), "is no range: write MIN:USUAL:MAX"),
        ((*RANGES, "--precision", "int8"), "needs ranges: add --calibration"),
        ((*RANGES, "--tactic-source", "CUDA"), "is no tactic source"),
        ((*RANGES, "--precision", "all", "--out", "one.plan"), "leave it out"),
    ],
)
def test_what_cannot_be_built_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], words: str
) -> None:
    done = _run(monkeypatch, _model(tmp_path), *argv)
    assert done.exit_code != 0
    assert words in done.output + str(done.exception)
    assert list(tmp_path.glob("*.plan*")) == []


def test_a_model_of_fixed_shape_needs_no_ranges_and_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(tmp_path, inputs={"image": [1, 3, 224, 224]})
    done = _run(monkeypatch, model)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "bert.fp16.plan").read_text())["profiles"] == []
    assert "leave it out" in str(_run(monkeypatch, model, "--batch", "1:8").exception)


def test_tensorrt_says_why_it_builds_nothing_and_no_plan_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _run(monkeypatch, _model(tmp_path), *RANGES, builds=False)
    assert "no implementation of node 7" in str(done.exception)
    broken = tmp_path / "broken.onnx"
    broken.write_text("no model")
    assert "not an ONNX model" in str(_run(monkeypatch, broken).exception)
    assert list(tmp_path.glob("*.plan*")) == []


def test_tensorrt_11_takes_precisions_from_the_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = _run(monkeypatch, _model(tmp_path), *RANGES, "--precision", "int8", typed=True)
    assert "ModelOpt" in str(refused.exception)
    done = _run(monkeypatch, _model(tmp_path), *RANGES, typed=True)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "bert.typed.plan").read_text())
    assert (told["flags"], told["preview"]) == ([], [])


@given(st.text(max_size=60))
def test_no_text_is_a_calibration_cache_by_accident(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("c") / "cache"
    path.write_text(f"TRT-8601-EntropyCalibration2\n{text}", encoding="utf-8")
    try:
        found = ranges.read_cache(path)
    except ConfigError:
        return
    assert found
    assert all(amax > 0 for amax in found.values())


@given(st.integers(1, 100), st.integers(0, 100), st.integers(0, 100))
def test_ranges_are_read_as_they_are_written(least: int, more: int, most: int) -> None:
    wanted = build.Extent(least, least + more, least + more + most)
    assert build.extent(":".join(map(str, wanted))) == wanted


def test_inspect_refuses_what_is_neither_plan_nor_json(tmp_path: Path) -> None:
    other = tmp_path / "a.json"
    other.write_text("[]")
    done = CliRunner().invoke(cli, ["engine", "inspect", str(other)])
    assert "is no inspector's JSON" in str(done.exception)


def test_inspect_prints_a_real_engine_and_its_json(tmp_path: Path) -> None:
    file = DATA / "encoder1-h200.engine.json.gz"
    shown = CliRunner().invoke(cli, ["engine", "inspect", str(file)])
    assert "verbosity  detailed" in shown.output
    assert "profile 1: 31 layers" in shown.output
    assert "\x1e" not in shown.output
    manifest = json.loads(CliRunner().invoke(cli, ["engine", "inspect", str(file), "--json"]).output)
    assert "blocks.0/attn" in json.dumps(manifest)
