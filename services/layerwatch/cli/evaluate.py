"""`layerwatch evaluate`: the detectors on recordings, judged by their labels, beside naive detectors."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from layerwatch.cli.numbers import Positive
from layerwatch.hosting.files import replace_whole
from layerwatch.schemas.errors import ConfigError

_FILE = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("files", nargs=-1, type=_FILE)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    type=Positive(most=1),
    metavar="R",
    help="Keep the layers of this share of the executions only; may be repeated.  [default: 1]",
)
@click.option(
    "--obey-control",
    is_flag=True,
    help="With --sample below 1: sample more where and while the run's own orders say so.",
)
@click.option("--without-counters", is_flag=True, help="Hide the GPU's counters, as on GPUs before Hopper.")
@click.option(
    "--shuffle",
    "shuffles",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Judge N other orders of each recording's phases instead, each after another time to learn.",
)
@click.option(
    "--alone",
    is_flag=True,
    help="Judge each fault as a clip of its own, after all that is healthy in its recording.",
)
@click.option("--json", "out", type=_FILE, metavar="OUT", help="Write all that is found here, as JSON.")
@click.option(
    "--report", type=_FILE, metavar="OUT.html", help="Write a page with a picture of each recording here."
)
@click.option(
    "--power",
    "seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead: inject faults of known size into the healthy executions, N times each, and count what is found.",
)
@click.option(
    "--safety-net",
    is_flag=True,
    help="Instead: silence the channel that caught each fault first, and see what still catches it.",
)
@click.option(
    "--decisions",
    "decide",
    is_flag=True,
    help="Instead: each phase as a clip of its own, and what would be decided by the policy in use.",
)
@click.option(
    "--loop",
    type=_FILE,
    metavar="OUT.html",
    help="Instead: a simulated service with two faults, with runtimes and autoscaler that obey and without; a picture over time.",
)
@click.option(
    "--live",
    type=Positive(),
    metavar="X",
    help="With --loop: over loopback, by Kafka and all services as processes, at X times the pace: 1 takes 25 min.",
)
@click.option(
    "--null",
    "months",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead: simulate N healthy months of each kind of noise, and count the pages of the slow path.",
)
def command(
    files: tuple[Path, ...],
    samples: tuple[float, ...],
    obey_control: bool,
    without_counters: bool,
    shuffles: int | None,
    alone: bool,
    out: Path | None,
    report: Path | None,
    seeds: int | None,
    safety_net: bool,
    decide: bool,
    loop: Path | None,
    live: float | None,
    months: int | None,
) -> None:
    """Run the detectors over the recordings FILES (.npz or .parquet) and judge what they find.

    Phases that a recording labels are read by the judgement alone. Without phases, what was found is listed.
    """
    study = sum((seeds is not None, safety_net, decide, loop is not None, months is not None))
    if study > 1:
        raise click.UsageError(
            "--power, --safety-net, --decisions, --loop and --null are studies: run one after the other"
        )
    if study and report is not None:
        raise click.UsageError(
            "--report shows verdicts: leave out --power, --safety-net, --decisions and --null"
        )
    if study and (shuffles is not None or alone or obey_control):
        raise click.UsageError(
            "--shuffle, --alone and --obey-control are for verdicts: leave out the studies"
        )
    if shuffles is not None and alone:
        raise click.UsageError(
            "--shuffle and --alone are two ways to cut a recording: run one after the other"
        )
    if obey_control and not any(sample < 1 for sample in samples):
        raise click.UsageError("--obey-control needs a --sample below 1: nothing can be raised otherwise")
    if live is not None and loop is None:
        raise click.UsageError("--live is for the closed loop: say --loop OUT.html too")
    if not files and months is None and loop is None:
        raise click.UsageError("name the recordings: layerwatch evaluate FILE...")
    from layerwatch.cli import null_months, studies
    from layerwatch.evaluation.conditions import Condition

    conditions = [
        Condition(sample, not without_counters, obey_control and sample < 1) for sample in samples or (1.0,)
    ]
    if seeds is not None:
        _write_json(out, {"studies": studies.power(files, conditions, seeds)})
    elif months is not None:
        _write_json(out, {"null": [asdict(row) for row in null_months.run(files, months)]})
    elif loop is not None:
        _loop(loop, live)
    elif decide:
        _write_json(out, {"studies": studies.decisions(files, conditions)})
    elif safety_net:
        _write_json(out, {"studies": studies.net(files, conditions)})
    else:
        _verdicts(studies.verdicts(files, conditions, shuffles or 0, alone_each=alone), out, report)


def _loop(out: Path, live: float | None) -> None:
    from layerwatch.cli import loop
    from layerwatch.evaluation.loop.page import page_of

    _write(out, page_of(*loop.run(live)))
    click.echo(f"the picture is in {out}")


def _verdicts(evaluations: list[Any], out: Path | None, report: Path | None) -> None:
    from layerwatch.cli.verdicts import show
    from layerwatch.evaluation.record import record_of
    from layerwatch.evaluation.report.page import page_of

    show(evaluations)
    _write_json(out, record_of(evaluations))
    if report is not None:
        _write(report, page_of(evaluations))


def _write_json(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        _write(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from error
