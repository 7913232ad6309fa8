"""The second operator's own numbers."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from service_signals import signal

from layerwatch.detectors.load.planner import Goal
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.settings import Settings
from layerwatch.processor.services import Services


def test_instances_are_counted_by_what_their_slow_path_can_do(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    orders = OrderBook(Settings(state_dir=tmp_path))
    operator = Services(3600.0, orders, registry, lambda service: Goal(), None)
    state = operator.restore(b"s", {})

    def counts() -> list[float | None]:
        return [
            registry.get_sample_value("layerwatch_slow_path_instances", {"service": "s", "state": name})
            for name in ("learning", "watching", "degraded")
        ]

    operator.fold(state, signal("a", 0))
    operator.fold(state, signal("b", 0, slow_path="watching"))
    assert counts() == [1, 1, None]
    operator.fold(state, signal("a", 1, slow_path="watching"))
    operator.fold(state, signal("a", 2, slow_path="degraded"))
    operator.fold(state, signal("a", 3, slow_path="degraded"))
    assert counts() == [0, 1, 1]
    operator.fold(state, signal("a", 4, slow_path="degraded", state="leaving"))
    assert counts() == [0, 1, 0]
