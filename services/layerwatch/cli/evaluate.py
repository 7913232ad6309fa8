"""`layerwatch evaluate`: the detectors on recordings, judged by their labels, beside naive detectors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from layerwatch.cli.numbers import Positive
from layerwatch.cli.progress import Progress
from layerwatch.cli.verdicts import show
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.record import record_of
from layerwatch.evaluation.report.page import page_of
from layerwatch.evaluation.run import Evaluation, evaluate
from layerwatch.hosting.files import replace_whole
from layerwatch.recording.open import open_recording
from layerwatch.schemas.errors import ConfigError

_FILE = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    type=Positive(most=1),
    metavar="R",
    help="Keep the layers of this share of the executions only; may be repeated.  [default: 1]",
)
@click.option("--without-counters", is_flag=True, help="Hide the GPU's counters, as on GPUs before Hopper.")
@click.option("--json", "out", type=_FILE, metavar="OUT", help="Write all verdicts and alerts here, as JSON.")
@click.option(
    "--report", type=_FILE, metavar="OUT.html", help="Write a page with a picture of each recording here."
)
def command(
    files: tuple[Path, ...],
    samples: tuple[float, ...],
    without_counters: bool,
    out: Path | None,
    report: Path | None,
) -> None:
    """Run the detectors over the recordings FILES (.npz or .parquet) and judge what they find.

    Phases that a recording labels are read by the judgement alone. Without phases, what was found is listed.
    """
    evaluations = []
    for sample in samples or (1.0,):
        evaluations += [_evaluate(file, Condition(sample, not without_counters)) for file in files]
    show(evaluations)
    if out is not None:
        _write(out, json.dumps(record_of(evaluations), indent=1, ensure_ascii=False) + "\n")
    if report is not None:
        _write(report, page_of(evaluations))


def _evaluate(file: Path, condition: Condition) -> Evaluation:
    recording = open_recording(file)
    with Progress(f"{recording.name}, {condition}", recording.executions) as progress:
        return evaluate(recording, condition, progress=progress)


def _write(path: Path, text: str) -> None:
    try:
        replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from error
