"""`make demo`: real layer timings through a real Kafka, alerts and decisions as they come, and what was injected beside."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from layerwatch.cli import ask
from layerwatch.cli.follow import Follower
from layerwatch.cli.stack import Stack
from layerwatch.cli.up import where_to_look
from layerwatch.evaluation.verdict import Judgement, judge
from layerwatch.hosting import kafka, logs, settings
from layerwatch.recording.open import open_recording
from layerwatch.recording.publish import publish
from layerwatch.recording.recording import Recording
from layerwatch.recording.shift import starting_at
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.errors import LayerwatchError

_RECORDING = Path(__file__).resolve().parents[3] / "tests" / "data" / "resnet50-h200.npz"
_SPEED = 6.0
_INTERRUPTED = 130  # as a shell says it
_SETTLE_S = 60.0  # from the last message to the last alert's end, at most


@click.command()
@click.argument("file", default=_RECORDING, type=click.Path(path_type=Path))
@click.option("--speed", default=_SPEED, show_default=True, help="Seconds of the recording a second.")
def command(file: Path, speed: float) -> None:
    """Replay the recording FILE through everything, on this machine."""
    console = Console(soft_wrap=True, highlight=False)
    loaded = settings.load()
    logs.configure(loaded.log, "demo")
    logging.getLogger().setLevel(logging.WARNING)
    loaded = loaded.model_copy(update={"log": loaded.log.model_copy(update={"level": "warning"})})
    recording = open_recording(file)
    stack = Stack(loaded)
    try:
        console.print("Starting Kafka, processor, decision centre and history ...")
        stack.start().wait_ready(90)
        judgement = _watch(stack, recording, speed, console)
        _tell(judgement, console)
        if sys.stdout.isatty():
            console.print(where_to_look(stack))
            threading.Event().wait()
        found = all(v.caught and v.cause_right is not False for v in judgement.faults)
        code = 0 if found and not judgement.false_alarms else 1
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        stack.stop()
    sys.exit(code)


def _watch(stack: Stack, recording: Recording, speed: float, console: Console) -> Judgement:
    """Replay so that the recording's end is the present, and follow what comes of it."""
    took_s = (recording.end_s - recording.start_s) / speed
    recording = starting_at(recording, time.time() + took_s - (recording.end_s - recording.start_s))
    console.print(
        f"Replaying {recording.executions} executions, {recording.end_s - recording.start_s:.0f} s "
        f"recorded on an H200, at {speed:g}x through Kafka at {stack.settings.kafka.servers}\n"
    )
    follower = Follower(stack.settings, console.print)
    producer = kafka.producer(stack.settings)
    try:
        publish(
            recording,
            producer,
            speed,
            boot_ms=time.time_ns() // 1_000_000,
            progress=follower.poll,
        )
    finally:
        kafka.abandon(producer)
    follower.until_quiet(_SETTLE_S)
    follower.close()
    _ask_history(stack, follower, console)
    return judged(recording, follower.alerts)


def judged(recording: Recording, alerts: list[Alert]) -> Judgement:
    """What was found in the recording; Kafka may hold other services from before, which are told of too."""
    services = {batch.service for batch in recording}
    return judge(recording.phases, [alert for alert in alerts if alert.service in services])


def _ask_history(stack: Stack, follower: Follower, console: Console) -> None:
    """What was told live must be on record."""
    ids = {alert.id for alert in follower.alerts}
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        known = {item["id"] for item in ask.items(stack.settings.history, "/v1/alerts", {}, 1000)}
        if ids <= known:
            break
        if time.monotonic() > deadline_s:
            raise LayerwatchError(f"history lacks {len(ids - known)} of {len(ids)} alerts")
        time.sleep(0.2)
    console.print(f"\nGET {stack.settings.history.base_url}/v1/alerts: all {len(ids)} alerts are on record\n")


def _tell(judgement: Judgement, console: Console) -> None:
    table = Table("injected", "found", "after", "first cause", "worst layer", box=None)
    for verdict in judgement.faults:
        first = verdict.first
        table.add_row(
            verdict.phase.name,
            "yes" if verdict.caught else "[red]no[/red]",
            f"{verdict.delay_s:.1f} s" if verdict.delay_s is not None else "",
            first.cause + (" (not what was injected)" if verdict.cause_right is False else "")
            if first
            else "",
            first.where[:60] if first else "",
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    faults, false_alarms = judgement.faults, judgement.false_alarms
    caught = sum(verdict.caught for verdict in faults)
    console.print(f"\n{caught} of {len(faults)} injected faults found, {len(false_alarms)} false alarms\n")


if __name__ == "__main__":
    try:
        command(prog_name="make demo")
    except LayerwatchError as error:
        sys.exit(f"layerwatch: {error}")
