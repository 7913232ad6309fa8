"""`layerwatch doctor`: checks this machine and lists every setting."""

from __future__ import annotations

import json as jsonlib
import sys

import click

from layerwatch.cli import checks
from layerwatch.hosting import settings


@click.command("doctor")
@click.option("--json", is_flag=True, help="One JSON object a line.")
def command(json: bool) -> None:
    """Check this machine, say what to mend, and list all settings; exit status 1 if something needed fails."""
    config = settings.load()
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
