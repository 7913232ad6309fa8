"""`layerwatch notify`."""

from __future__ import annotations

import click

from layerwatch.hosting import logs, settings


@click.command()
def command() -> None:
    """Tell people of alerts, on the channels of services.toml."""
    from layerwatch.notify.server import run

    loaded = settings.load()
    logs.configure(loaded.log, "notify")
    run(loaded)
