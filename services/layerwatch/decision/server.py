"""Runs the decision centre."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from layerwatch.decision.decisions import Decisions
from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.stream_metrics import StreamMetrics
from layerwatch.hosting.streams import StreamApp
from layerwatch.hosting.watchdog import Watchdog


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    own = settings.decision
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    watchdog = Watchdog(own.hang_s)
    app = StreamApp(
        "decision",
        settings,
        [Decisions(own.mode, registry)],
        checkpoint_s=own.checkpoint_s,
        watchdog=watchdog,
        metrics=StreamMetrics(registry),
    )
    health = HealthServer(own.http_port, registry, watchdog.problem, lambda: app.ready).start()
    watchdog.start()
    try:
        app.run()
    finally:
        health.close()
