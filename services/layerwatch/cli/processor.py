"""`layerwatch processor`."""

from __future__ import annotations

import click

from layerwatch.hosting import logs, settings


@click.command()
def command() -> None:
    """Run the stream processor: layer timings to alerts."""
    from layerwatch.processor.server import run

    loaded = settings.load()
    logs.configure(loaded.log, "processor")
    run(loaded)
