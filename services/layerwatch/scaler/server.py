"""The process of the scaler: reads load and decisions, answers Prometheus and KEDA."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from functools import partial

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.log_source import KafkaSource
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import Settings
from layerwatch.scaler.board import Board
from layerwatch.scaler.keda import KedaServer, Pulse
from layerwatch.scaler.numbers import Numbers
from layerwatch.scaler.reading import Reading
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.topics import DECISIONS_CURRENT, LOAD

_log = logging.getLogger(__name__)

_STOP_S = 2.0
#: Without an answer of Kafka for so long, something is wrong. Answers go stale by themselves.
_STUCK_S = 60.0


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Call from the main thread.

    Raises ConfigError where a port or services.toml cannot be used, Unavailable when reading failed.
    """
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    own = settings.scaler
    orders = OrderBook(settings)
    board = Board(load_services(settings.services), orders, settings.decision.mode, own.stale_s)
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector):
        collector(registry=registry)
    registry.register(Numbers(board))
    loop, stopped, pulse = asyncio.get_running_loop(), asyncio.Event(), Pulse()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def ended() -> None:
        loop.call_soon_threadsafe(stopped.set)

    reading = Reading(
        partial(KafkaSource, "layerwatch-scaler", settings, (LOAD, DECISIONS_CURRENT)),
        board,
        pulse.beat,
        ended,
        prepare=orders.wait_loaded,
    )
    server = KedaServer(own, board, pulse)
    health = HealthServer(
        own.http_port, registry, lambda: _problem(reading), lambda: board.ready, host=settings.http_host
    ).start()
    orders.start()
    reading.start()
    _log.info("KEDA on %s:%d, metrics on port %d", own.grpc_host, server.port, health.port)
    try:
        await server.serve(stopped)
    finally:
        health.close()
    failure = reading.failure
    reading.stop(_STOP_S)
    if failure is not None:
        raise Unavailable(
            f"the scaler stopped reading the topics ({failure}): the log says more; start it again"
        ) from failure


def _problem(reading: Reading) -> str | None:
    still_s = time.monotonic() - reading.read_s
    if still_s < _STUCK_S:
        return None
    return f"Kafka has not answered for {still_s:.0f} s: what is told goes stale; look at the broker"
