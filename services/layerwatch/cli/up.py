"""`layerwatch up`: all services on this machine, in the foreground."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import click

from layerwatch.cli.stack import Stack, url, wanted
from layerwatch.hosting import logs, settings
from layerwatch.schemas.errors import Unavailable

_log = logging.getLogger(__name__)


@click.command("up")
def command() -> None:
    """Run Kafka and all services until Ctrl-C or SIGTERM; what crashes is started again.

    A second Ctrl-C kills everything at once.
    """
    config = settings.load()
    logs.configure(config.log, "up")
    stack = Stack(config)
    _obey_signals(stack)
    try:
        stack.start()
        _wait_ready(stack)
        click.echo(where_to_look(stack))
        while True:
            signal.pause()
    except KeyboardInterrupt:
        _log.info("stopping")
    finally:
        stack.stop()


def where_to_look(stack: Stack) -> str:
    """A few lines for a person who has just started everything."""
    config = stack.settings
    metrics = "\n            ".join(f"{url(config, name)}/metrics" for name in wanted(config))
    return (
        "layerwatch is up (Ctrl-C stops it)\n"
        f"  alerts    layerwatch alerts, or {url(config, 'history')}\n"
        f"  metrics   {metrics}\n"
        f"  Kafka     {config.kafka.servers}"
    )


def _wait_ready(stack: Stack) -> None:
    while True:
        try:
            return stack.wait_ready()
        except Unavailable as error:
            _log.warning("%s", error)


def _obey_signals(stack: Stack) -> None:
    stopping = False

    def obey(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            stack.kill()
            return
        stopping = True
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, obey)
