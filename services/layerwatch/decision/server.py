"""Runs the decision centre."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from layerwatch.decision.decisions import Decisions
from layerwatch.decision.rulebook import load_rulebook
from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.orders_http import OrdersHttp
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.stream_metrics import StreamMetrics
from layerwatch.hosting.streams import StreamApp
from layerwatch.hosting.watchdog import Watchdog


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises ConfigError for a policy or services.toml that cannot be used."""
    own = settings.decision
    rulebook = load_rulebook(settings)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    watchdog = Watchdog(own.hang_s)
    orders = OrderBook(settings)
    app = StreamApp(
        "decision",
        settings,
        [Decisions(rulebook, orders, registry)],
        checkpoint_s=own.checkpoint_s,
        watchdog=watchdog,
        metrics=StreamMetrics(registry),
        before=orders.wait_loaded,
    )
    health = HealthServer(
        own.http_port,
        registry,
        watchdog.problem,
        lambda: app.ready,
        OrdersHttp(orders),
        host=settings.http_host,
    ).start()
    orders.start()
    watchdog.start()
    try:
        app.run()
    finally:
        health.close()
