"""The process of the notifier: reads, sends, and says how it is."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial

from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.log_source import KafkaSource
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import Settings
from layerwatch.notify.channels import Directory
from layerwatch.notify.delivery import Delivery
from layerwatch.notify.desk import Desk
from layerwatch.notify.life import Rules
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import FILE_NAME, Outbox
from layerwatch.notify.reading import Reading
from layerwatch.notify.redaction import Redaction
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.topics import ALERTS, DECISIONS

_log = logging.getLogger(__name__)

_STOP_S = 2.0
_SHOW_S = 1.0


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Call from the main thread.

    Raises ConfigError where nothing can be told or a file cannot be used, Unavailable when reading failed.
    """
    own = settings.notify
    services = load_services(settings.services)
    directory = Directory(services, settings.history.base_url, own.runbook_url, own.resend_s)
    lanes = directory.lanes()
    if not lanes:
        raise ConfigError(
            "there is nobody to tell: add a table [channels.NAME] to services.toml,"
            " and let LAYERWATCH_SERVICES name that file"
        )
    redaction = Redaction()
    for handler in logging.getLogger().handlers:
        handler.addFilter(redaction)
    names = [lane.name for lane in lanes]
    metrics, outbox = Metrics(names), Outbox(settings.state_dir / FILE_NAME)
    if strays := outbox.bury_strays(names, "its channel is no longer configured", time.time()):
        _log.warning("%d notices of channels that are no longer configured are dead letters", strays)
    rules = Rules(own.gather_s, own.hold_s, since_s=outbox.since_s(time.time()))
    orders, stopped = OrderBook(settings).start(), threading.Event()
    deliveries: list[Delivery] = []
    desk = Desk(
        outbox,
        directory,
        rules,
        lambda alert, at_s: orders.silencing(alert, at_s) is not None,
        metrics,
        partial(_wake, deliveries),
    )
    connect = partial(KafkaSource, "layerwatch-notify", settings, (ALERTS, DECISIONS))
    # Silences first: nobody is to be told of what is silenced.
    reading = Reading(connect, outbox, desk, metrics, stopped.set, prepare=orders.wait_loaded)
    deliveries += [
        Delivery(lane, directory, outbox, metrics, redaction, reading.alive, stopped.set) for lane in lanes
    ]
    health = HealthServer(
        own.http_port,
        metrics.registry,
        lambda: _problem(reading, deliveries),
        lambda: reading.ready,
        host=settings.http_host,
    ).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    reading.start()
    for delivery in deliveries:
        delivery.start()
    _log.info("telling %s, outbox in %s", ", ".join(names), settings.state_dir / FILE_NAME)
    while not stopped.wait(_SHOW_S):
        metrics.show(outbox.waiting(), outbox.dead(), names)
    reading.stop(_STOP_S)
    health.close()
    if not all(delivery.going for delivery in deliveries):
        raise Unavailable("a channel cannot go on: the log says why; mend that, and start the notifier again")
    if reading.failure is not None:
        raise Unavailable(
            f"the notifier stopped reading the topics ({reading.failure}): the log says more; start it again"
        ) from reading.failure


def _wake(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        delivery.wake()


def _problem(reading: Reading, deliveries: Sequence[Delivery]) -> str | None:
    found = [reading.problem(), *(delivery.problem() for delivery in deliveries)]
    return "; ".join(text for text in found if text) or None
