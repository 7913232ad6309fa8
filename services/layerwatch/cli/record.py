"""`layerwatch record`: the topics, or another recording, to a Parquet file."""

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
from layerwatch.hosting.kafka import consumer
from layerwatch.hosting.settings import load
from layerwatch.recording.capture import capture
from layerwatch.recording.open import open_recording
from layerwatch.recording.parquet import ParquetRecorder, write_parquet
from layerwatch.recording.recording import Recording
from layerwatch.recording.tap import Tap
from layerwatch.recording.trtexec import read_trtexec
from layerwatch.schemas.errors import Unavailable

_FILE = click.Path(path_type=Path)


@click.command("record")
@click.option(
    "--out", type=_FILE, required=True, help="The .parquet file to write; one that exists is replaced."
)
@click.option("--from", "source", type=_FILE, help="Convert this recording instead of reading Kafka.")
@click.option(
    "--from-trtexec",
    "exports",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Convert what trtexec exported: repeat it for --exportTimes, --exportProfile, --exportLayerInfo.",
)
@click.option("--duration", type=Positive(), metavar="S", help="Stop after this many seconds.")
@click.option("--executions", type=click.IntRange(min=1), help="Stop once so many are recorded.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest messages that Kafka still has.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    out: Path,
    source: Path | None,
    exports: tuple[Path, ...],
    duration: float | None,
    executions: int | None,
    from_start: bool,
    as_json: bool,
) -> None:
    """Record what agents publish, until Ctrl-C unless a limit is given."""
    if out.suffix != ".parquet":
        raise click.BadParameter(f"{out} must end in .parquet", param_hint="--out")
    if source is not None and exports:
        raise click.UsageError("--from and --from-trtexec are two sources: take one")
    if (source is not None or exports) and (duration is not None or executions is not None or from_start):
        raise click.UsageError(
            "--from or --from-trtexec converts a whole file: leave out --duration, --executions, --from-start"
        )
    began_s = time.monotonic()
    if exports:
        summary = _convert(read_trtexec(exports, out.stem), out)
    elif source:
        summary = _convert(open_recording(source), out)
    else:
        summary = _from_kafka(out, duration, executions, from_start)
    summary |= {"bytes": out.stat().st_size, "seconds": round(time.monotonic() - began_s, 3), "out": str(out)}
    click.echo(json.dumps(summary) if as_json else ", ".join(f"{k} {v}" for k, v in summary.items()))


def _convert(recording: Recording, out: Path) -> dict[str, Any]:
    with Progress("convert", recording.executions) as progress:
        write_parquet(recording, out, progress)
    return {"messages": len(recording.batches), "executions": recording.executions}


def _from_kafka(
    out: Path, duration_s: float | None, executions: int | None, from_start: bool
) -> dict[str, Any]:
    settings = load()
    logs.configure(settings.log, "record")
    kafka = consumer(settings)
    try:
        with ParquetRecorder(out, out.stem) as recorder:
            tap = Tap(kafka, from_start=from_start)
            click.echo(f"recording from {settings.kafka.servers}", err=True)
            with Stop() as stop, Progress("record", executions) as progress:
                captured = capture(
                    tap,
                    recorder,
                    duration_s=duration_s or math.inf,
                    executions=executions or math.inf,
                    stop=stop,
                    progress=progress,
                )
            if not captured.messages:
                raise Unavailable(
                    "no messages came: see that agents run, or take --from-start for older ones"
                )
    finally:
        kafka.close()
    return {
        "messages": captured.messages,
        "executions": captured.executions,
        "engines": len(captured.engines),
        "engines_without_manifest": len(captured.engines) - len(captured.described),
        "undecodable": captured.undecodable,
    }
