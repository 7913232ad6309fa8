"""`layerwatch agent`."""

from __future__ import annotations

from pathlib import Path

import click

from layerwatch.cli.stop import Stop
from layerwatch.hosting import logs, settings


@click.command("agent")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.lwlog",
    help="Write what would be sent to this file, for `layerwatch replay`; no Kafka is needed.",
)
def command(to: Path | None) -> None:
    """Run the agent of this host: publish what its runtimes execute, and set what they sample."""
    from layerwatch.agent.server import run
    from layerwatch.schemas.message_log import SUFFIX

    if to is not None and to.suffix != SUFFIX:
        raise click.BadParameter(f"{to} must end in {SUFFIX}", param_hint="--to")
    loaded = settings.load()
    logs.configure(loaded.log, "agent")
    with Stop() as stop:
        run(loaded, to, stop)
