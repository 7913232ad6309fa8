"""`layerwatch alerts` and `layerwatch decisions` against a history that serves for real."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner
from history_records import START_S, alert_json, decision_json

from layerwatch.cli.ask import duration, since
from layerwatch.cli.main import cli, main
from layerwatch.history.api import create_app
from layerwatch.history.metrics import Metrics
from layerwatch.history.reader import Reader
from layerwatch.history.rows import alert_row, decision_row
from layerwatch.history.server import bind
from layerwatch.history.store import Batch, Store
from layerwatch.hosting.settings import HistorySettings
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.times import rfc3339

LONG = "/a/very/long/name/of/a/fused/layer/" + "x" * 300
LAYER = {
    "name": LONG,
    "group": "g",
    "index": 1,
    "baseline_ms": 0.1,
    "observed_ms": 0.4,
    "ratio": 4.0,
    "excess_ms": 0.3,
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store(tmp_path / "db")
    app = create_app(Reader(tmp_path / "db"), Metrics().registry, lambda: None, lambda: True, lambda _: None)
    with bind(HistorySettings.model_validate({"http_port": 0})) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        monkeypatch.setenv("LAYERWATCH_HISTORY__URL", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        yield store
        server.should_exit = True
        thread.join()
    store.close()


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def add(store: Store, *alerts: bytes) -> None:
    store.write(Batch([alert_row(alert) for alert in alerts]))


def test_alerts_are_a_table_that_is_not_cut_where_there_is_no_terminal(store: Store) -> None:
    closed = alert_json("b", 2, status="resolved", closed_at=rfc3339(START_S + 90), summary="[bold]x[/]")
    add(store, alert_json("a", layers=[LAYER]), closed)
    text = ask("alerts")
    assert LONG in text
    assert "gpu_contention 86%" in text
    assert "0:01:30" in text


def test_an_alert_is_a_page_with_its_layers_causes_shapes_and_revisions(store: Store) -> None:
    summaries = ("it [begins]", "it goes on")
    add(store, *(alert_json("a/1", n + 1, summary=text, layers=[LAYER]) for n, text in enumerate(summaries)))
    text = ask("alerts", "a/1")
    assert text.startswith("it goes on\n")
    for part in (LONG, "SM utilisation 34 -> 97 %", "ids 1x128", "it [begins]", "410 of 812"):
        assert part in text


def test_json_follows_the_pages_up_to_the_limit_one_object_a_line(store: Store) -> None:
    add(store, *(alert_json(str(n), opened_s=START_S + n) for n in range(1_250)))
    lines = ask("alerts", "--json", "--limit", "1200").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(n) for n in range(1_249, 49, -1)]
    assert json.loads(ask("alerts", "7", "--json"))["id"] == "7"


def test_the_options_of_alerts_filter_them(store: Store) -> None:
    add(
        store,
        alert_json("x", service="llm", kind="load", severity="critical", opened_s=START_S + 60),
        alert_json("y", status="resolved", closed_at=rfc3339(START_S + 1)),
    )
    for options in (
        ("--service", "llm"),
        ("--kind", "load"),
        ("--severity", "critical"),
        ("--status", "firing"),
        ("--since", rfc3339(START_S + 60)),
    ):
        assert [json.loads(line)["id"] for line in ask("alerts", "--json", *options).splitlines()] == ["x"]


def test_decisions_are_a_table_and_can_be_filtered(store: Store) -> None:
    rows = [
        decision_row(decision_json("m")),
        decision_row(decision_json("n", action="shed", reason="too much")),
    ]
    store.write(Batch(rows))
    text = ask("decisions", "--action", "shed")
    assert "too much" in text
    assert "bert-qa/*/capacity" in text
    assert "load grows" not in text
    assert len(ask("decisions", "--json").splitlines()) == 2


@pytest.mark.parametrize("arguments", [["alerts"], ["decisions"], ["alerts", "nobody"]])
def test_nothing_found_is_said_and_no_failure(store: Store, arguments: list[str]) -> None:
    assert "found" in ask(*arguments)


def test_a_history_that_does_not_answer_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAYERWATCH_HISTORY__URL", "http://127.0.0.1:1")
    with pytest.raises(SystemExit) as ended:
        main(["alerts"])
    assert ended.value.code == 1
    assert "start `layerwatch history`" in capsys.readouterr().err


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("arguments", [["alerts"], ["alerts", "a"], ["decisions"]])
def test_another_server_at_that_address_is_not_taken_for_a_history_without_alerts(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("LAYERWATCH_HISTORY__URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SystemExit):
            main(arguments)
    assert "it answers 404" in capsys.readouterr().err


def test_since_takes_ages_and_times() -> None:
    assert since("15m", START_S) == rfc3339(START_S - 900)
    assert since("2h", START_S) == rfc3339(START_S - 7200)
    assert since("2026-11-22T11:00:00+01:00", 0) == rfc3339(START_S)
    assert since(None, 0) is None
    for wrong in ("15", "soon", "999999d"):
        with pytest.raises(ConfigError, match="15m"):
            since(wrong, START_S)


def test_a_duration_is_hours_minutes_seconds() -> None:
    assert duration(rfc3339(START_S), rfc3339(START_S + 3_725)) == "1:02:05"
