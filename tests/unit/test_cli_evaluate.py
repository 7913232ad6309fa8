"""`layerwatch evaluate`: arguments, files, and the shape of its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from layerwatch.cli.evaluate import command
from layerwatch.cli.main import main
from layerwatch.evaluation.noise import KINDS
from layerwatch.evaluation.power.faults import FAULTS
from layerwatch.evaluation.power.study import power_of
from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import write_parquet

DATA = Path(__file__).parents[1] / "data"
INT8 = DATA / "resnet50-int8-h200.npz"

#: Names that scripts of users rely on: add, never remove.
FIELDS = {
    "": {"schema", "conditions"},
    "condition": {"sample", "counters", "obeys_control", "recordings", "totals"},
    "recording": {
        *("name", "executions", "seconds", "refused_messages", "labelled", "healthy_s", "faults", "healthy"),
        *("false_alarms", "alerts", "naive", "obeyed"),
    },
    "fault": {
        *("phase", "start_s", "end_s", "caught", "in_time", "delay_s", "delay_executions", "delay_switches"),
        *(
            "first_alert",
            "cause",
            "expected_causes",
            "cause_right",
            "where",
            "expected_block",
            "layers_right",
        ),
        *("closed_after_s", "alerts"),
    },
    "healthy": {"phase", "start_s", "end_s", "false_alarms"},
    "alert": {
        *("id", "at_s", "closed_s", "kind", "severity", "worst_severity", "summary", "causes", "last_causes"),
        *("layers", "detectors"),
    },
    "naive": {"name", "faults", "caught", "false_alarms"},
    "totals": {
        *("faults", "caught", "in_time", "causes_judged", "causes_right", "layers_judged", "layers_right"),
        *("alerts", "most_alerts", "false_alarms", "healthy_s", "naive"),
    },
}


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def written(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name the recordings"),
        ([str(INT8), "--sample", "0"], "above 0 and at most 1"),
        ([str(INT8), "--sample", "1.5"], "above 0 and at most 1"),
        ([str(INT8), "--power", "0"], "x>=1"),
        ([str(INT8), "--power", "1", "--safety-net"], "one after the other"),
        ([str(INT8), "--safety-net", "--shuffle", "2"], "leave out"),
        ([str(INT8), "--safety-net", "--report", "a.html"], "leave out"),
        ([str(INT8), "--obey-control"], "--obey-control needs a --sample below 1"),
        ([str(INT8), "--power", "1", "--sample", "0.1", "--obey-control"], "leave out"),
        ([str(INT8), "--alone", "--shuffle", "2"], "one after the other"),
        ([str(INT8), "--alone", "--safety-net"], "leave out"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("name", ["absent.npz", "text.npz", "text.parquet", "text.csv"])
def test_a_bad_file_is_one_line_and_status_1(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_text("text")
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(tmp_path / name)])
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert name in told


def test_a_place_that_cannot_be_written_to_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(INT8), "--json", "/nowhere/at/all.json"])
    assert end.value.code == 1
    assert "cannot write /nowhere/at/all.json" in capsys.readouterr().err


def test_verdicts_are_printed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.json"
    printed = run(INT8, "--json", out).stdout
    assert "input_x4" in printed
    assert "no false alarm" in printed
    (condition,) = written(out)["conditions"]
    (recording,) = condition["recordings"]
    assert {fault["cause"] for fault in recording["faults"]} == {"quantization_range"}
    assert all(0 < fault["delay_s"] < 3 and fault["in_time"] for fault in recording["faults"])
    assert condition["totals"]["caught"] == 4


def test_the_fields_of_the_json_stay(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.json"
    run(INT8, "--json", out)
    document = written(out)
    assert document["schema"] == "layerwatch.evaluation/1"
    condition = document["conditions"][0]
    recording = condition["recordings"][0]
    parts = {"": document, "condition": condition, "recording": recording, "totals": condition["totals"]}
    parts |= {key: recording[f"{key}s"][0] for key in ("fault", "alert")}
    parts |= {key: recording[key][0] for key in ("healthy", "naive")}
    for name, part in parts.items():
        assert set(part) == FIELDS[name], name


def test_every_share_of_layers_is_a_condition_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.json"
    printed = run(INT8, "--sample", "1", "--sample", "0.1", "--without-counters", "--json", out).stdout
    assert "layers of 0.1, no counters" in printed
    assert [(c["sample"], c["counters"]) for c in written(out)["conditions"]] == [(1.0, False), (0.1, False)]


def test_other_orders_of_the_phases_are_recordings_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.json"
    run(INT8, "--shuffle", "2", "--json", out)
    (condition,) = written(out)["conditions"]
    assert [r["name"] for r in condition["recordings"]] == [f"resnet50-int8-h200~{seed}" for seed in (0, 1)]
    assert condition["totals"]["faults"] == 8


def test_what_obeying_the_orders_took_is_told_beside_all_layers(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.json"
    printed = run(
        INT8, "--alone", "--sample", "1", "--sample", "0.05", "--obey-control", "--json", out
    ).stdout
    assert "with all layers" in printed
    assert "layers of 0.05 and more on orders: in " in printed
    plain, obeying = written(out)["conditions"]
    assert (plain["obeys_control"], obeying["obeys_control"]) == (False, True)
    assert len(obeying["recordings"]) == obeying["totals"]["faults"] == 4
    for found in obeying["recordings"]:
        (raised,) = found["obeyed"]["raised"]
        assert set(raised) == {"before", "after_s", "samples"}
        assert 0 < found["obeyed"]["sampled"] < found["obeyed"]["executions"]
    assert {found["obeyed"] for found in plain["recordings"]} == {None}


def test_a_recording_without_phases_is_told_without_a_verdict(tmp_path: Path) -> None:
    path, out = tmp_path / "own.parquet", tmp_path / "found.json"
    write_parquet(replace(read_npz(INT8), phases=[]), path)
    printed = run(path, "--json", out).stdout
    assert "nothing to judge" in printed
    assert "quantization_range" in printed
    assert "false alarm" not in printed
    (recording,) = written(out)["conditions"][0]["recordings"]
    assert recording["labelled"] is False
    assert (recording["faults"], recording["naive"], recording["false_alarms"]) == ([], [], [])
    assert len(recording["alerts"]) == 4


def test_a_page_is_written(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    run(INT8, "--report", out)
    assert out.read_text().startswith("<!doctype html>")


def test_the_safety_net_is_printed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "net.json"
    printed = run(INT8, "--safety-net", "--json", out).stdout
    assert "caught without their first channel" in printed
    (study,) = written(out)["studies"]
    assert study["schema"] == "layerwatch.safety_net/1"
    assert {fault["first_channel"] for fault in study["faults"]} == {"clipping"}


def test_power_is_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = tuple(fault for fault in FAULTS if fault.executions < 1000)
    monkeypatch.setattr(power_of, "__defaults__", (quick,))
    out = tmp_path / "power.json"
    printed = run(DATA / "resnet50-h200.npz", "--power", "1", "--json", out).stdout
    assert "all layers x1.3" in printed
    (study,) = written(out)["studies"]
    assert (study["schema"], study["seeds"]) == ("layerwatch.power/1", 1)
    assert {row["fault"] for row in study["by_recording"]} == {fault.name for fault in quick}


def test_healthy_months_are_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(list(KINDS.items())[:1])
    monkeypatch.setattr("layerwatch.cli.null_months.KINDS", few)
    out = tmp_path / "null.json"
    result = run("--null", 1, "--json", out)
    assert "pages a month" in result.output
    assert [row["kind"] for row in json.loads(out.read_text())["null"]] == list(few)
