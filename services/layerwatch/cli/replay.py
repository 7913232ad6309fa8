"""`layerwatch replay`: a recording to Kafka as agents would send it, or through the detectors in process."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from layerwatch.cli.numbers import Positive
from layerwatch.cli.progress import Progress
from layerwatch.cli.stop import Stop
from layerwatch.hosting import logs
from layerwatch.hosting.follower import Follower
from layerwatch.hosting.kafka import abandon, producer
from layerwatch.hosting.settings import Settings, load
from layerwatch.recording.obey import Obedient
from layerwatch.recording.open import open_recording
from layerwatch.recording.publish import publish
from layerwatch.recording.recording import Recording
from layerwatch.recording.shift import starting_at
from layerwatch.recording.thin import thinned
from layerwatch.schemas.control import CONTROL_READER
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.topics import CONTROL

_FILE = click.Path(path_type=Path)
_READY_S = 10.0


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
@click.option(
    "--obey-control",
    is_flag=True,
    help="With --sample: keep more where and while the processor's orders say so, as a runtime would.",
)
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
    obey_control: bool,
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
    if obey_control and sample is None:
        raise click.UsageError(
            "--obey-control needs --sample R: the share that is sampled while nothing is suspected"
        )
    recording = open_recording(file, service, instance)
    obedient = Obedient(sample) if sample is not None and obey_control else None
    if sample is not None and obedient is None:
        recording = thinned(recording, sample)
    if now:
        recording = starting_at(recording, time.time())
    if offline:
        _summarise(_offline(recording, alerts, decisions, obedient), as_json)
    else:
        summary, code = _to_kafka(recording, speed or 1.0, obedient)
        _summarise(summary, as_json)
        click.get_current_context().exit(code)


def _to_kafka(recording: Recording, speed: float, obedient: Obedient | None) -> tuple[dict[str, Any], int]:
    """What was published, and the status to exit with."""
    settings = load()
    logs.configure(settings.log, "replay")
    kafka = producer(settings, linger_ms=20)
    boot_ms = time.time_ns() // 1_000_000
    began_s = time.monotonic()
    try:
        with (
            Stop() as stop,
            _followed(settings, obedient),
            Progress("replay", recording.executions) as progress,
        ):
            published = publish(
                recording, kafka, speed, boot_ms=boot_ms, obedient=obedient, stop=stop, progress=progress
            )
        summary = {
            "recording": recording.name,
            "messages": published.messages,
            "executions": published.executions,
            "seconds": round(time.monotonic() - began_s, 3),
            "boot_ms": boot_ms,
            "interrupted": published.interrupted,
            **_sampled(obedient),
        }
        return summary, stop.exit_code if published.interrupted else 0
    finally:
        abandon(kafka)  # all that counts was acknowledged, or has raised already


@contextmanager
def _followed(settings: Settings, obedient: Obedient | None) -> Iterator[None]:
    """While the block runs, the processor's orders are obeyed; those of earlier replays are not."""
    if obedient is None:
        yield
        return

    def take(topic: str, value: bytes | None) -> None:
        with suppress(InvalidRecord):
            obedient.take([CONTROL_READER.decode(value or b"")])

    follower = Follower(settings, [CONTROL], take, from_start=False)
    follower.start()
    try:
        if not follower.ready.wait(_READY_S):
            raise Unavailable(
                f"cannot read {CONTROL}: see that Kafka runs and `layerwatch topics` has created it"
            )
        yield
    finally:
        follower.close()


def _sampled(obedient: Obedient | None) -> dict[str, int]:
    return {} if obedient is None else {"sampled": obedient.sampled}


def _offline(
    recording: Recording, alerts: Path | None, decisions: Path | None, obedient: Obedient | None
) -> dict[str, Any]:
    from layerwatch.recording.offline import run_offline  # a replay to Kafka needs no detectors

    began_s = time.monotonic()
    with Progress("replay", recording.executions) as progress:
        raised, decided = run_offline(recording, alerts, decisions, progress, obedient)
    return {
        "recording": recording.name,
        "messages": len(recording.batches),
        "executions": recording.executions,
        "seconds": round(time.monotonic() - began_s, 3),
        "alerts": raised,
        "decisions": decided,
        **_sampled(obedient),
    }


def _summarise(summary: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(summary) if as_json else ", ".join(f"{k} {v}" for k, v in summary.items()))
