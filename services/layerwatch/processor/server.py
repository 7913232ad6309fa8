"""Runs the processor."""

from __future__ import annotations

import gc

import numpy.ma  # noqa: F401  numpy imports it with the first quantile, and would hold up the stream
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from layerwatch.detectors.load import lstm as load_lstm
from layerwatch.detectors.load.planner import Goal
from layerwatch.detectors.load.stage import goal_of
from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.stream_metrics import StreamMetrics
from layerwatch.hosting.streams import StreamApp
from layerwatch.hosting.watchdog import Watchdog
from layerwatch.processor.catalogue import Catalogue
from layerwatch.processor.instances import Instances
from layerwatch.processor.models import first_models
from layerwatch.processor.services import Services
from layerwatch.schemas.errors import ConfigError, InvalidRecord


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    own = settings.processor
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    watchdog = Watchdog(own.hang_s)
    said = load_services(settings.services)

    def goal(name: str) -> Goal:
        service = said.get(name)
        return goal_of(
            service.target_latency_ms, service.startup_s, service.min_replicas, service.max_replicas
        )

    catalogue = Catalogue(settings, first_models(settings), own.manifest_wait_s)
    orders = OrderBook(settings)

    def wait_loaded() -> None:
        catalogue.wait_loaded()
        orders.wait_loaded()

    app = StreamApp(
        "processor",
        settings,
        [
            Instances(catalogue, registry),
            Services(own.silence_s, orders, registry, goal, _load_model(settings), own.sampling),
        ],
        checkpoint_s=own.checkpoint_s,
        watchdog=watchdog,
        metrics=StreamMetrics(registry),
        before=wait_loaded,
    )
    health = HealthServer(
        own.http_port, registry, watchdog.problem, lambda: app.ready, host=settings.http_host
    ).start()
    catalogue.start()
    orders.start()
    watchdog.start()
    _spare_the_collector()
    try:
        app.run()
    finally:
        health.close()


def _spare_the_collector() -> None:
    """States of instances live for days and hold few cycles: looking through them again and again costs a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _load_model(settings: Settings) -> load_lstm.LoadLstm:
    """The shipped one, or that of `models_dir` where there is one."""
    folder = settings.models_dir
    path = None if folder is None else folder / load_lstm.FILE_NAME
    if path is None or not path.is_file():
        return load_lstm.shipped()
    try:
        return load_lstm.from_bytes(path.read_bytes())
    except InvalidRecord as error:
        raise ConfigError(
            f"{path} cannot be used ({error}): fit it anew with `layerwatch train --load`"
        ) from error
