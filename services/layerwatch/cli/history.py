"""`layerwatch history`: run the history service."""

from __future__ import annotations

import click

from layerwatch.history.server import run
from layerwatch.hosting import logs
from layerwatch.hosting.settings import load


@click.command()
def command() -> None:
    """Keep every alert and decision in a database, and serve them over HTTP."""
    settings = load()
    logs.configure(settings.log, "history")
    run(settings)
