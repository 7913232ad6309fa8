"""The numbers for Prometheus, made at each scrape: what is stale is absent, so that a query gets no zero."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from layerwatch.scaler.answer import Known, Unknown
from layerwatch.scaler.board import Board
from layerwatch.schemas.times import unix_s


class Numbers(Collector):
    """Labels are service, action and mode: no layer, shape or request."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[GaugeMetricFamily]:
        replicas = GaugeMetricFamily(
            "layerwatch_recommended_replicas",
            "Replicas to order at least, of services in enforce; 0 asks for nothing",
            labels=["service"],
        )
        active = GaugeMetricFamily(
            "layerwatch_decision_active", "1 while it holds", labels=["service", "action", "mode"]
        )
        expires = GaugeMetricFamily(
            "layerwatch_decision_expires_timestamp_seconds", "Latest end of a lease", labels=["service"]
        )
        evaluated = GaugeMetricFamily(
            "layerwatch_last_evaluation_timestamp_seconds",
            "Event time up to which a service's load is known",
            labels=["service"],
        )
        for service in self._board.services():
            load, answer = self._board.load(service), self._board.answer(service)
            if load is not None:
                evaluated.add_metric([service], unix_s(load.at))
            if isinstance(answer, Unknown):
                continue
            self._add_replicas(replicas, service, answer)
            self._add_decisions(active, expires, service)
        yield from (replicas, active, expires, evaluated)

    def _add_replicas(self, family: GaugeMetricFamily, service: str, answer: Known) -> None:
        if self._board.mode(service) == "enforce":
            family.add_metric([service], answer.replicas)

    def _add_decisions(self, active: GaugeMetricFamily, expires: GaugeMetricFamily, service: str) -> None:
        found: dict[tuple[str, str], bool] = {}
        ends = []
        for decision, holds in self._board.decisions(service):
            kind = decision.action, decision.mode
            found[kind] = found.get(kind, False) or holds
            ends.append(unix_s(decision.expires_at))
        for (action, mode), holds in found.items():
            active.add_metric([service, action, mode], float(holds))
        if ends:
            expires.add_metric([service], max(ends))
