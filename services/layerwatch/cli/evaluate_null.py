"""`layerwatch evaluate-null`: months in which nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from layerwatch.cli.progress import Progress
from layerwatch.detectors.models import shipped
from layerwatch.detectors.slow.watch import MONTH_BLOCKS
from layerwatch.evaluation.noise import KINDS, replayed
from layerwatch.evaluation.null import AT_ONCE, NullMonths, Power, null_months
from layerwatch.evaluation.replayed import stretches
from layerwatch.recording.open import open_recording
from layerwatch.schemas.errors import ConfigError


@click.command("evaluate-null")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--months", "-n", type=click.IntRange(1), default=200, show_default=True, metavar="N")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice([*KINDS, "replayed"]), help="Only this noise."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a kind.")
def command(files: tuple[Path, ...], months: int, kinds: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Simulate N healthy service-months of each kind of noise through the slow path, and count its pages.

    With recordings FILES, real noise from their healthy phases is one kind more.
    """
    rows = evaluate_null(files, months, kinds, seed, told=_print if as_json else lambda row: None)
    if not as_json:
        Console(width=160).print(_table(rows))


def evaluate_null(
    files: tuple[Path, ...],
    months: int,
    kinds: tuple[str, ...],
    seed: int,
    told: Callable[[NullMonths], None],
) -> list[NullMonths]:
    """Of each kind; `told` is called with each as soon as it is known."""
    noises = dict(KINDS)
    if files:
        real = stretches(open_recording(file) for file in files)
        if not real:
            raise ConfigError(
                "no recording has a healthy phase of 400 executions with their layers: name longer ones"
            )
        noises["replayed"] = replayed(real)
    elif "replayed" in kinds:
        raise ConfigError("replayed noise needs recordings: name their files")
    lstm, out = shipped().lstm, []
    for kind in kinds or tuple(noises):
        with Progress(kind, MONTH_BLOCKS * -(-months // AT_ONCE), "blocks") as progress:
            out.append(null_months(kind, noises[kind], months, lstm, seed, progress))
        told(out[-1])
    return out


def _print(row: NullMonths) -> None:
    click.echo(json.dumps({"measure": "null_months", **asdict(row)}))


def _table(rows: list[NullMonths]) -> Table:
    table = Table("noise", "pages a month", "at most", "after the cap", "at most", "info", "end degraded")
    for fault in rows[0].power:
        table.add_column(f"{fault.fault}: found, blocks")
    for row in rows:
        table.add_row(
            row.kind,
            f"{row.pages / row.months:.3f}",
            f"{row.pages_most:.3f}",
            f"{row.pages_after_cap / row.months:.3f}",
            f"{row.after_cap_most:.3f}",
            str(row.info),
            f"{row.degraded:.0%}",
            *(_found(fault) for fault in row.power),
        )
    return table


def _found(power: Power) -> str:
    return "none" if power.blocks is None else f"{power.found:.0%}, {power.blocks:.0f}"
