"""`layerwatch train`: fit the models on what is healthy, and publish those that are better."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from layerwatch.cli.progress import Progress
from layerwatch.detectors import models as m
from layerwatch.detectors.models import EVERY_BUILD, shipped
from layerwatch.hosting import kafka, logs, settings
from layerwatch.hosting.files import replace_whole
from layerwatch.processor.models import first_models
from layerwatch.recording.open import open_recording
from layerwatch.schemas import topics
from layerwatch.schemas.codec import encode
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.models import ModelRecord
from layerwatch.training.feature_topic import feature_records
from layerwatch.training.harvest import gathered, harvest

_LOAD_STEPS = 1000

_FILES = {m.FOREST_STREAM: m.FOREST_FILE, m.LSTM_STREAM: m.LSTM_FILE, m.SLOW_STREAM: m.SLOW_FILE}


@click.command("train")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the models of every build into this folder.",
)
@click.option(
    "--publish", is_flag=True, help="Send the models to running processors, which take them up at once."
)
@click.option(
    "--load", "of_load", is_flag=True, help="FILES are traces of arrivals: fit the LSTM that forecasts load."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(files: tuple[Path, ...], out: Path | None, publish: bool, of_load: bool, as_json: bool) -> None:
    """Fit Isolation Forest and LSTMs on what is healthy in the recordings FILES; without any, on what processors told of
    their instances during the last week.

    Healthy is what the detectors find healthy; labels inside the files are not looked at. A forest goes out only if it is better than
    the one in use on windows that neither has seen, for every build and for single ones; an LSTM has to earn its place on each instance.
    """
    if out is None and not publish:
        raise click.UsageError("say where the models go: --out FOLDER, --publish, or both")
    if of_load and (publish or out is None or not files):
        raise click.UsageError(
            "the LSTM of load is read from models_dir at the start: say --load FILES --out FOLDER"
        )
    loaded = settings.load()
    logs.configure(loaded.log, "train")
    if of_load and out is not None:
        return _tell(_fit_load(files, out), as_json)
    refused: list[InvalidRecord] = []
    gained = gathered(_of_files(files) if files else _of_topic(loaded, refused))
    # torch takes seconds to load: not before there is something to fit on
    from layerwatch.training.fit import fit_all

    present = first_models(loaded).forest or shipped().forest
    assert present is not None
    fitted = fit_all(gained, present, time.time(), Progress)
    summary: dict[str, Any] = {
        "windows": sum(len(of) for windows in gained.windows.values() for of in windows),
        "seconds": sum(map(len, gained.seconds)),
        "minutes": sum(map(len, gained.minutes)),
        "refused": len(refused),
        "outdated": gained.outdated,
        **fitted.report,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for model in fitted.models:
            if model.build == EVERY_BUILD:
                replace_whole(out / _FILES[model.stream], model.tensors)
    if publish:
        _publish(loaded, fitted.models, fitted.kept)
        summary["published"] = [model.key for model in fitted.models]
    _tell(summary, as_json)


def _tell(summary: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(summary) if as_json else "\n".join(_lines(summary)))


def _lines(summary: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in summary.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {', '.join(value) if isinstance(value, list) else value}"


def _fit_load(files: tuple[Path, ...], out: Path) -> dict[str, Any]:
    from layerwatch.detectors.load import lstm
    from layerwatch.evaluation.capacity.traces import rates, read
    from layerwatch.training.fit_load import fit_load

    runs = [rates(read(file)) for file in files]
    with Progress("fit the LSTM of load", _LOAD_STEPS, "steps") as progress:
        model, fit = fit_load(runs, progress, _LOAD_STEPS)
    out.mkdir(parents=True, exist_ok=True)
    replace_whole(out / lstm.FILE_NAME, lstm.to_bytes(model))
    return {"traces": len(files), "blocks": sum(map(len, runs)), **asdict(fit)}


def _of_files(files: Iterable[Path]) -> Iterator[FeatureRecord]:
    for file in files:
        recording = open_recording(file)
        with Progress(f"read {file.name}", len(recording.batches), "messages") as progress:
            yield from harvest(recording.manifests, recording, progress)


def _of_topic(loaded: settings.Settings, refused: list[InvalidRecord]) -> Iterator[FeatureRecord]:
    with (
        closing(kafka.consumer(loaded)) as consumer,
        Progress(f"read {topics.FEATURES}", None, "records") as progress,
    ):
        yield from feature_records(consumer, refused, progress)


def _publish(loaded: settings.Settings, records: list[ModelRecord], kept: list[str]) -> None:
    """`kept`: builds that need no forest of their own; one that was published earlier is withdrawn."""
    producer = kafka.producer(loaded)
    try:
        sent = [
            producer.send(topics.MODELS, key=record.key.encode(), value=encode(record)) for record in records
        ]
        for build in kept:
            sent.append(producer.send(topics.MODELS, key=f"{build}/forest/{m.FOREST_STREAM}".encode()))
        for one in sent:
            one.get(30)
    finally:
        kafka.abandon(producer)
