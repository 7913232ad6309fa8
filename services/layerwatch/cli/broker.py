"""`layerwatch broker`: the local Kafka in the foreground."""

from __future__ import annotations

import signal
import time

import click

from layerwatch.broker import jars
from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import logs, settings
from layerwatch.schemas.errors import ConfigError

_LOOK_EVERY_S = 0.2


@click.command("broker")
def command() -> None:
    """Run the local Kafka broker until Ctrl-C or SIGTERM; fetches Kafka with Maven the first time."""
    config = settings.load()
    logs.configure(config.log, "broker")
    if config.kafka.bootstrap:
        raise ConfigError(
            f"LAYERWATCH_KAFKA__BOOTSTRAP is set, so the cluster at {config.kafka.bootstrap} is used: "
            "unset it to run a local broker"
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    libs = config.state_dir / "kafka-libs"
    broker = LocalBroker(config.state_dir / "kafka", libs, config.kafka.port)
    try:
        jars.ensure(libs)
        broker.start()
        click.echo(f"Kafka is ready at {broker.bootstrap} (log: {broker.log})")
        while broker.ready():
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        pass
    finally:
        broker.stop()
