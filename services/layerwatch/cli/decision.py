"""`layerwatch decision`."""

from __future__ import annotations

import click

from layerwatch.decision.server import run
from layerwatch.hosting import logs, settings


@click.command()
def command() -> None:
    """Run the decision centre: alerts to decisions."""
    loaded = settings.load()
    logs.configure(loaded.log, "decision")
    run(loaded)
