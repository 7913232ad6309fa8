"""`layerwatch topics`: creates what is missing and says how each topic is."""

from __future__ import annotations

import json as jsonlib
import sys

import click

from layerwatch.hosting import logs, settings, topics


@click.command("topics")
@click.option("--check", is_flag=True, help="Only look: create nothing.")
@click.option("--json", is_flag=True, help="One JSON object a line.")
def command(check: bool, json: bool) -> None:
    """Create the missing topics, then check them all; exit status 1 if one is not as it must be."""
    config = settings.load()
    logs.configure(config.log, "topics")
    created = [] if check else topics.ensure(config)
    found = topics.inspect(config)
    for name, problems in found.items():
        state = "wrong" if problems else "created" if name in created else "ok"
        if json:
            click.echo(jsonlib.dumps({"topic": name, "state": state, "problems": problems}))
        else:
            click.echo(f"{state:8}{name}")
            for problem in problems:
                click.echo(f"        {problem}")
    sys.exit(1 if any(found.values()) else 0)
