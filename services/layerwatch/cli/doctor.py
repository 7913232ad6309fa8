"""`layerwatch doctor`: checks this machine and lists every setting."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path

import click

from layerwatch.cli import checks
from layerwatch.cli.numbers import Positive
from layerwatch.hosting import settings


@click.command("doctor")
@click.option("--json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--engine",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PLAN",
    help="Measure what the probe costs on this engine and GPU instead, tier by tier.",
)
@click.option(
    "--seconds", type=Positive(), default=20.0, show_default=True, help="For each profile and hot path."
)
@click.option(
    "--shares-profiles",
    is_flag=True,
    help="The engine was built with PROFILE_SHARING_0806 (TensorRT before 10, and not by `engine build`).",
)
def command(json: bool, engine: Path | None, seconds: float, shares_profiles: bool) -> None:
    """Check this machine, say what to mend, and list all settings; exit status 1 if something needed fails."""
    config = settings.load()
    if engine is not None:
        from layerwatch.cli.engine_cost import report

        report(engine, seconds, config, as_json=json, shares_profiles=shares_profiles)
        return
    failed = False
    for check in checks.run(config):
        failed = failed or check.state == "fail"
        click.echo(jsonlib.dumps(check._asdict()) if json else _line(check))
    if not json:
        click.echo("\nSettings (value, where it was set, what it is)")
    for path, value, source, description in settings.describe(config):
        if json:
            entry = {"setting": ".".join(path), "value": value, "source": source, "description": description}
            click.echo(jsonlib.dumps(entry, default=str))
        else:
            shown = "unset" if value is None else value
            click.echo(f"  {settings.variable(path)} = {shown} ({source}): {description}")
    sys.exit(1 if failed else 0)


def _line(check: checks.Check) -> str:
    mend = f"\n       -> {check.remedy}" if check.remedy else ""
    return f"{check.state:5}{check.name:10} {check.found}{mend}"
