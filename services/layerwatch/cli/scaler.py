"""`layerwatch scaler`."""

from __future__ import annotations

import click

from layerwatch.hosting import logs, settings


@click.command()
def command() -> None:
    """Tell autoscalers how many replicas are needed: Prometheus on /metrics, KEDA by gRPC."""
    from layerwatch.scaler.server import run

    loaded = settings.load()
    logs.configure(loaded.log, "scaler")
    run(loaded)
