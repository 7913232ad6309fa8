"""`layerwatch replay` and `layerwatch record` without Kafka: arguments, conversion, offline, progress."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from layerwatch.cli.main import main
from layerwatch.cli.progress import Progress
from layerwatch.cli.record import command as record
from layerwatch.cli.replay import command as replay
from layerwatch.cli.stop import Stop
from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import read_parquet
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch

INT8 = Path(__file__).parents[1] / "data" / "resnet50-int8-h200.npz"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--speed", "0"], "0 is not a number above 0, or max"),
        (["--speed", "-1"], "-1 is not"),
        (["--speed", "nan"], "nan is not"),
        (["--speed", "inf"], "inf is not"),
        (["--speed", "fast"], "fast is not"),
        (["--sample", "0"], "above 0 and at most 1"),
        (["--sample", "1.5"], "above 0 and at most 1"),
        (["--sample", "nan"], "above 0 and at most 1"),
        (["--alerts", "a.jsonl"], "need --offline"),
        (["--offline", "--speed", "2"], "--speed is for Kafka"),
    ],
)
def test_replay_refuses_arguments_that_make_no_sense(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(replay, [str(INT8), *arguments])
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "a.npz"], "must end in .parquet"),
        (["--out", "a.parquet", "--duration", "0"], "above 0"),
        (["--out", "a.parquet", "--executions", "0"], "x>=1"),
        (["--out", "a.parquet", "--from", str(INT8), "--duration", "1"], "converts a whole file"),
    ],
)
def test_record_refuses_arguments_that_make_no_sense(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(record, arguments)
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("name", ["absent.npz", "text.npz", "text.parquet", "text.csv"])
def test_a_bad_file_is_one_line_and_status_1(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_text("text")
    with pytest.raises(SystemExit) as end:
        main(["replay", str(tmp_path / name)])
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert name in told


def test_record_converts_a_file(tmp_path: Path) -> None:
    out = tmp_path / "resnet50-int8-h200.parquet"
    result = CliRunner().invoke(record, ["--out", str(out), "--from", str(INT8), "--json"])
    assert result.exit_code == 0, result.output
    assert read_parquet(out) == read_npz(INT8)
    summary = json.loads(result.stdout)
    assert (summary["executions"], summary["bytes"]) == (2000, out.stat().st_size)


class FakePipeline:
    """Raises one alert a build and takes one decision at the end; any record will do."""

    def __init__(self) -> None:
        self.known: list[Manifest] = []

    def manifest(self, manifest: Manifest) -> None:
        self.known.append(manifest)

    def update(self, batch: ProfileBatch) -> tuple[list[Manifest], list[Manifest]]:
        assert batch.engine in {manifest.engine for manifest in self.known}
        return (self.known, []) if batch.sequence == 0 else ([], [])

    def finish(self) -> tuple[list[Manifest], list[Manifest]]:
        return [], [Manifest(engine="decided")]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("layerwatch.detectors.pipeline")
    module.Pipeline = FakePipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "layerwatch.detectors.pipeline", module)
    sys.modules.pop("layerwatch.recording.offline", None)
    yield
    sys.modules.pop("layerwatch.recording.offline", None)


@pytest.mark.usefixtures("pipeline")
def test_offline_writes_what_the_detectors_say_one_object_a_line(tmp_path: Path) -> None:
    alerts, decisions = tmp_path / "a.jsonl", tmp_path / "d.jsonl"
    arguments = [str(INT8), "--offline", "--alerts", str(alerts), "--decisions", str(decisions), "--json"]
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)[1] for line in alerts.read_text().splitlines()] == [
        manifest.engine for manifest in read_npz(INT8).manifests
    ]
    assert [json.loads(line)[1] for line in decisions.read_text().splitlines()] == ["decided"]
    summary = json.loads(result.stdout)
    assert (summary["executions"], summary["alerts"], summary["decisions"]) == (2000, 1, 1)


def test_progress_without_a_terminal_is_a_line_every_5_s() -> None:
    now_s = 0.0
    stream = io.StringIO()
    with Progress("replay", 100, stream=stream, clock=lambda: now_s) as progress:
        for done in range(12):
            now_s += 1
            progress(done)
    assert stream.getvalue() == "replay: 4 of 100 executions\nreplay: 9 of 100 executions\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar() -> None:
    stream = Terminal()
    with Progress("replay", 100, stream=stream) as progress:
        progress(40)
    assert "40/100" in stream.getvalue()


def test_a_first_signal_is_remembered_and_a_second_one_acts() -> None:
    with Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
