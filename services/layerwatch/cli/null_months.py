"""`layerwatch evaluate --null`: months in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

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

_SEED = 1


def run(files: tuple[Path, ...], months: int) -> list[NullMonths]:
    """Show a table of all kinds of noise; real noise from the healthy phases of `files` is one kind more."""
    rows = simulate(files, months)
    Console(width=160).print(_table(rows))
    return rows


def simulate(files: tuple[Path, ...], months: int) -> list[NullMonths]:
    """N healthy service-months of each kind of noise through the slow path. Raises ConfigError for too short files."""
    noises = dict(KINDS)
    if files:
        real = stretches(open_recording(file) for file in files)
        if not real:
            raise ConfigError(
                "no recording has a healthy phase of 400 executions with their layers: name longer ones"
            )
        noises["replayed"] = replayed(real)
    lstm, out = shipped().slow_lstm, []
    for kind, noise in noises.items():
        with Progress(kind, MONTH_BLOCKS * -(-months // AT_ONCE), "blocks") as progress:
            out.append(null_months(kind, noise, months, lstm, _SEED, progress))
    return out


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
