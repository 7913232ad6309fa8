"""`layerwatch train`: fit the models from recordings, and publish them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from layerwatch.cli.progress import Progress
from layerwatch.detectors import models, pooled
from layerwatch.hosting import kafka, logs, settings
from layerwatch.hosting.files import replace_whole
from layerwatch.recording.open import open_recording
from layerwatch.schemas import topics
from layerwatch.schemas.codec import encode
from layerwatch.schemas.models import ModelRecord
from layerwatch.training.fit_forest import fit_forest
from layerwatch.training.fit_lstm import fit_lstm
from layerwatch.training.harvest import Harvest, harvest

_LSTM_STEPS = 400
_LOAD_STEPS = 1000


@click.command("train")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write the models into this folder."
)
@click.option(
    "--publish", is_flag=True, help="Send the models to running processors, which take them up at once."
)
@click.option(
    "--load", "of_load", is_flag=True, help="FILES are traces of arrivals: fit the LSTM that forecasts load."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(files: tuple[Path, ...], out: Path | None, publish: bool, of_load: bool, as_json: bool) -> None:
    """Fit Isolation Forest and LSTM on what is healthy in the recordings FILES.

    Healthy is what the detectors find healthy; labels inside the files are not looked at.
    """
    if out is None and not publish:
        raise click.UsageError("say where the models go: --out FOLDER, --publish, or both")
    if of_load and (publish or out is None):
        raise click.UsageError("the LSTM of load is read from models_dir at the start: say --out FOLDER")
    loaded = settings.load()
    logs.configure(loaded.log, "train")
    if of_load and out is not None:
        return _tell(_fit_load(files, out), as_json)
    harvested = _harvest(files)
    with Progress("fit the forest", 1, "models") as progress:
        forest = fit_forest(np.array(harvested.windows).reshape(len(harvested.windows), -1))
        progress(1)
    with Progress("fit the LSTM", _LSTM_STEPS, "steps") as progress:
        lstm, held_out = fit_lstm(harvested.levels, progress, _LSTM_STEPS)
    fitted = {
        "forest": (models.FOREST_STREAM, pooled.SCHEMA, models.forest_bytes(forest)),
        "lstm": (models.LSTM_STREAM, models.LSTM_SCHEMA, models.lstm_bytes(lstm)),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for kind, (_, _, tensors) in fitted.items():
            replace_whole(out / f"{kind}.safetensors", tensors)
    if publish:
        _publish(loaded, fitted)
    summary = {
        "recordings": len(files),
        "windows": len(harvested.windows),
        "blocks": sum(map(len, harvested.levels)),
        "forest_threshold": round(forest.threshold, 4),
        "held_out_mean_absolute_error": {k: round(v, 4) for k, v in asdict(held_out).items()},
    }
    _tell(summary, as_json)


def _tell(summary: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(summary) if as_json else "\n".join(f"{k}: {v}" for k, v in summary.items()))


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


def _harvest(files: tuple[Path, ...]) -> Harvest:
    all_of_them = Harvest()
    for file in files:
        recording = open_recording(file)
        with Progress(f"read {file.name}", len(recording.batches), "messages") as progress:
            one = harvest(recording.manifests, recording, progress)
        all_of_them.windows += one.windows
        all_of_them.levels += one.levels
    return all_of_them


def _publish(loaded: settings.Settings, fitted: dict[str, tuple[str, str, bytes]]) -> None:
    producer = kafka.producer(loaded)
    try:
        for kind, (stream, features, tensors) in fitted.items():
            record = ModelRecord(
                build="*",
                kind=kind,
                stream=stream,
                features=features,
                valid_from_s=time.time(),
                tensors=tensors,
            )
            producer.send(topics.MODELS, key=record.key.encode(), value=encode(record)).get(30)
    finally:
        kafka.abandon(producer)
