"""`layerwatch capacity`: forecasts of load against scaling on utilisation, on arrivals of real services."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerwatch.cli.numbers import Positive
from layerwatch.cli.progress import Progress

if TYPE_CHECKING:
    from layerwatch.evaluation.capacity.study import Difference, Row

_STARTUPS_S = (60.0, 180.0, 300.0)


@click.command("capacity")
@click.argument("tuned_on", type=click.Path(path_type=Path))
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--startup",
    "startups_s",
    multiple=True,
    type=Positive(most=3600),
    metavar="S",
    help="Seconds from the order of a replica until it serves; may be repeated.  [default: 60, 180, 300]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(tuned_on: Path, traces: tuple[Path, ...], startups_s: tuple[float, ...], as_json: bool) -> None:
    """Simulate a service under TRACES, scaled by layerwatch's forecasts and by its utilisation.

    Both are tuned on the trace TUNED_ON, which is not among TRACES. A trace is a published file of arrivals: a CSV file of
    Azure's LLM inference traces, a JSON-lines file of Mooncake's, or a folder of ServeGen's.
    """
    from layerwatch.detectors.load.lstm import shipped
    from layerwatch.evaluation.capacity.study import compare
    from layerwatch.evaluation.capacity.traces import read

    first, *others = (read(path) for path in (tuned_on, *traces))
    startups = startups_s or _STARTUPS_S
    with Progress("simulate", len(startups) * len(others), "rows") as progress:
        rows = list(compare(first, others, startups, shipped(), progress))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    click.echo(f"tuned on {first.name}: {len(first.times_s)} requests in {first.hours:.2f} h\n")
    click.echo(_HEAD)
    for row in rows:
        click.echo(_line(row))
    click.echo(_FOOT)


_HEAD = (
    f"{'':37} on utilisation       layerwatch    difference, 95 % intervals{'':21} fell  best in hindsight\n"
    f"start-up  trace{'':25} late      h    late      h    late, points           hours, %{'':16} back    late      h"
)
_FOOT = (
    "\nlate: share of requests over the target latency; h: replica-hours. The queue, start-up and scale-in are the same for both,\n"
    "and the settings of each are those that were best on the trace that it was tuned on. Best in hindsight: the utilisation\n"
    "that would have been best on this very trace, which nobody knows beforehand."
)


def _line(row: Row) -> str:
    late, theirs, best = (n / row.requests for n in (row.late, row.reactive_late, row.hindsight_late))
    return (
        f"{row.startup_s:>6.0f} s  {row.trace[-28:]:<28} {theirs:>6.2%} {row.reactive_hours:>6.1f}  {late:>6.2%} {row.hours:>6.1f}"
        f"    {_difference(row.late_difference, 2)} {_difference(row.hours_difference, 1)} {row.fallen_back:>5.0%}"
        f"  {best:>6.2%} {row.hindsight_hours:>6.1f}"
    )


def _difference(d: Difference, digits: int) -> str:
    text = f"{d.value:+.{digits}f} ({d.low:+.{digits}f} … {d.high:+.{digits}f})"
    return f"{text:<23}"
