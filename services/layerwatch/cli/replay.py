"""`layerwatch replay`: a recording to Kafka as agents would send it, or through the detectors in process."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import click

from layerwatch.cli.numbers import Positive
from layerwatch.cli.progress import Progress
from layerwatch.cli.stop import Stop
from layerwatch.hosting import logs
from layerwatch.hosting.kafka import abandon, producer
from layerwatch.hosting.settings import load
from layerwatch.recording.open import open_recording
from layerwatch.recording.publish import publish
from layerwatch.recording.recording import Recording
from layerwatch.recording.shift import starting_at
from layerwatch.recording.thin import thinned

_FILE = click.Path(path_type=Path)


@click.command("replay")
@click.argument("file", type=_FILE)
@click.option(
    "--speed",
    type=Positive(words={"max": math.inf}),
    metavar="X|max",
    help="Seconds of the recording a second, or as fast as Kafka takes them.  [default: 1]",
)
@click.option("--now", is_flag=True, help="Move the recorded times to the present.")
@click.option("--service", help="Replay under this service's name.")
@click.option("--instance", help="Replay under this instance's name.")
@click.option("--sample", type=Positive(most=1), metavar="R", help="Keep the layers of this share only.")
@click.option("--offline", is_flag=True, help="Run the detectors in this process, without Kafka.")
@click.option("--alerts", type=_FILE, help="With --offline: write the alerts here, one JSON object a line.")
@click.option("--decisions", type=_FILE, help="With --offline: write the decisions here, likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    file: Path,
    speed: float | None,
    now: bool,
    service: str | None,
    instance: str | None,
    sample: float | None,
    offline: bool,
    alerts: Path | None,
    decisions: Path | None,
    as_json: bool,
) -> None:
    """Replay the recording FILE (.npz or .parquet). Ctrl-C lets its instances say goodbye."""
    if offline and speed is not None:
        raise click.UsageError("--speed is for Kafka: --offline runs as fast as it can")
    if not offline and (alerts or decisions):
        raise click.UsageError("--alerts and --decisions need --offline: Kafka's topics hold them otherwise")
    recording = open_recording(file, service, instance)
    if sample is not None:
        recording = thinned(recording, sample)
    if now:
        recording = starting_at(recording, time.time())
    if offline:
        _summarise(_offline(recording, alerts, decisions), as_json)
    else:
        summary, code = _to_kafka(recording, speed or 1.0)
        _summarise(summary, as_json)
        click.get_current_context().exit(code)


def _to_kafka(recording: Recording, speed: float) -> tuple[dict[str, Any], int]:
    """What was published, and the status to exit with."""
    settings = load()
    logs.configure(settings.log, "replay")
    kafka = producer(settings, linger_ms=20)
    boot_ms = time.time_ns() // 1_000_000
    began_s = time.monotonic()
    try:
        with Stop() as stop, Progress("replay", recording.executions) as progress:
            published = publish(recording, kafka, speed, boot_ms=boot_ms, stop=stop, progress=progress)
        summary = {
            "recording": recording.name,
            "messages": published.messages,
            "executions": published.executions,
            "seconds": round(time.monotonic() - began_s, 3),
            "boot_ms": boot_ms,
            "interrupted": published.interrupted,
        }
        return summary, stop.exit_code if published.interrupted else 0
    finally:
        abandon(kafka)  # all that counts was acknowledged, or has raised already


def _offline(recording: Recording, alerts: Path | None, decisions: Path | None) -> dict[str, Any]:
    from layerwatch.recording.offline import run_offline  # a replay to Kafka needs no detectors

    began_s = time.monotonic()
    with Progress("replay", recording.executions) as progress:
        raised, decided = run_offline(recording, alerts, decisions, progress)
    return {
        "recording": recording.name,
        "messages": len(recording.batches),
        "executions": recording.executions,
        "seconds": round(time.monotonic() - began_s, 3),
        "alerts": raised,
        "decisions": decided,
    }


def _summarise(summary: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(summary) if as_json else ", ".join(f"{k} {v}" for k, v in summary.items()))
