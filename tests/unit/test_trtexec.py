"""trtexec's exports become a recording that everything else reads.

The files are written here as trtexec's sources do (samples/common/sampleReporting.cpp): one entry a line, names not escaped.
"""

from __future__ import annotations

import gzip
import json
import os
from array import array
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from layerwatch.cli.main import cli
from layerwatch.recording.open import open_recording
from layerwatch.recording.trtexec import read_trtexec
from layerwatch.schemas.errors import ConfigError

DATA = Path(__file__).resolve().parents[1] / "data"
WRITTEN_S = 1_795_000_000.0
NAMES = ["/blocks.0/attn/MatMul", 'a "quoted" name', "raw \x1e control", "/blocks.1/fc/Conv"]


def _times(folder: Path, count: int = 300, **changes: Any) -> Path:
    path = folder / "times.json"
    entries = []
    for number in range(count):
        start = 4.0 * number
        entry = {"startEnqMs": start, "endEnqMs": start + 0.5, "startH2dMs": start, "endH2dMs": start + 0.25}
        entry |= {"startComputeMs": start + 0.25, "endComputeMs": start + 2.25, "startD2hMs": start + 2.25}
        entry |= {"endD2hMs": start + 2.5 + number / 1000, "h2dMs": 0.25, "computeMs": 2.0, "d2hMs": 0.25}
        entries.append(entry | {"latencyMs": 2.5 + number / 1000} | changes)
    path.write_text("[" + "\n, ".join(json.dumps(entry) for entry in entries) + "\n]\n")
    os.utime(path, (WRITTEN_S, WRITTEN_S))
    return path


def _profile(folder: Path, names: list[str] = NAMES, *, median: bool = True) -> Path:
    path = folder / "profile.json"
    lines = ['[\n  { "count" : 300 }\n']
    for number, name in enumerate(names, 1):
        last = f'"medianMs" : {number / 10}, ' if median else ""
        lines.append(
            f', {{ "name" : "{name}", "timeMs" : {30 * number}, "averageMs" : {number / 5}, {last}"percentage" : 25 }}\n'
        )
    path.write_text("".join(lines) + "]\n")
    return path


def _record(folder: Path, *files: Path) -> Result:
    argv = [part for file in files for part in ("--from-trtexec", str(file))]
    return CliRunner().invoke(cli, ["record", "--out", str(folder / "bert.parquet"), *argv, "--json"])


def test_times_and_profile_become_a_recording_that_can_be_replayed(tmp_path: Path) -> None:
    done = _record(tmp_path, _times(tmp_path), _profile(tmp_path))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["executions"] == 300
    recording = open_recording(tmp_path / "bert.parquet")
    (manifest,) = recording.manifests
    assert [layer.name for layer in manifest.profiles[0].layers] == NAMES
    assert [layer.group for layer in manifest.profiles[0].layers] == ["blocks.0/attn", "", "", "blocks.1/fc"]
    latencies = [ms for batch in recording for ms in array("f", batch.end_to_end_ms)]
    assert latencies == pytest.approx([2.5 + n / 1000 for n in range(300)])
    assert {round(ms, 3) for batch in recording for ms in array("f", batch.host_ms)} == {0.5}
    times_s = [s for batch in recording for s in array("d", batch.times_s)]
    assert times_s == sorted(times_s)
    assert times_s[-1] == pytest.approx(WRITTEN_S)
    sampled = [block for batch in recording for block in batch.layers]
    assert [list(array("f", block.times_ms)) for block in sampled] == [pytest.approx([0.1, 0.2, 0.3, 0.4])]
    offline = CliRunner().invoke(
        cli,
        [
            "replay",
            str(tmp_path / "bert.parquet"),
            "--offline",
            "--alerts",
            str(tmp_path / "a.jsonl"),
            "--decisions",
            str(tmp_path / "d.jsonl"),
        ],
    )
    assert offline.exit_code == 0, offline.output
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_a_profile_alone_is_one_execution_and_old_files_have_means(tmp_path: Path) -> None:
    recording = read_trtexec([_profile(tmp_path, median=False)], "bert")
    assert recording.executions == 1
    (batch, *_) = recording.batches
    assert array("f", batch.end_to_end_ms)[0] == pytest.approx(0.2 + 0.4 + 0.6 + 0.8)
    assert batch.host_ms == b""


def test_layer_info_tells_types_and_precisions_of_a_real_engine(tmp_path: Path) -> None:
    info = tmp_path / "layers.json"
    text = gzip.decompress((DATA / "encoder1-int8-h200.engine.json.gz").read_bytes())
    info.write_bytes(text)
    names = [layer["Name"] for layer in json.loads(text, strict=False)["Layers"]]
    recording = read_trtexec([info, _times(tmp_path), _profile(tmp_path, names)], "bert")
    (profile,) = recording.manifests[0].profiles
    assert [layer.name for layer in profile.layers] == names
    assert {"int8", "fp32"} <= {layer.precision for layer in profile.layers}
    again = read_trtexec([_times(tmp_path, 10), _profile(tmp_path, names)], "other")
    assert again.manifests[0].engine == recording.manifests[0].engine
    without_profile = read_trtexec([_times(tmp_path, 10), info], "bert")
    assert not any(batch.layers for batch in without_profile)
    assert len(without_profile.manifests[0].profiles[0].layers) == len(names)


def test_what_is_no_export_is_refused_with_words(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    for text in ("", "7", "[]", "{}", "[[]]", '[{"x": 1}]', "not json"):
        other.write_text(text)
        with pytest.raises(ConfigError, match="is not a file of trtexec"):
            read_trtexec([other], "s")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trtexec([tmp_path / "none.json"], "s")
    with pytest.raises(ConfigError, match="second file of its kind"):
        read_trtexec([_times(tmp_path), _times(tmp_path)], "s")
    with pytest.raises(ConfigError, match="latencyMs is -1"):
        read_trtexec([_times(tmp_path, latencyMs=-1)], "s")
    with pytest.raises(ConfigError, match="latencyMs is 'x'"):
        read_trtexec([_times(tmp_path, latencyMs="x")], "s")
    info = tmp_path / "layers.json"
    info.write_text('{"Layers": ["a"], "Bindings": []}')
    with pytest.raises(ConfigError, match="holds no timing"):
        read_trtexec([info], "s")


def test_two_sources_or_limits_with_one_are_refused(tmp_path: Path) -> None:
    times = str(_times(tmp_path))
    for argv in (["--from", times], ["--duration", "3"], ["--from-start"]):
        done = CliRunner().invoke(
            cli, ["record", "--out", str(tmp_path / "b.parquet"), "--from-trtexec", times, *argv]
        )
        assert done.exit_code == 2
