"""`layerwatch processor`."""

from __future__ import annotations

import os

import click

from layerwatch.hosting import logs, settings


@click.command()
def command() -> None:
    """Run the stream processor: layer timings to alerts."""
    # The matrices are small: threads of the linear algebra library would only contend. Read when numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from layerwatch.processor.server import run

    loaded = settings.load()
    logs.configure(loaded.log, "processor")
    run(loaded)
