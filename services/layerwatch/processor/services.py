"""Second operator: signals to alerts, by service."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge

from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.hosting.operator import Outgoing
from layerwatch.hosting.orders import OrderBook
from layerwatch.schemas import cloudevents, topics
from layerwatch.schemas.alerts import CE_TYPE, Alert
from layerwatch.schemas.codec import Reader, encode_json
from layerwatch.schemas.signals import Signal

_STATE = "state"
_SOURCE = "/layerwatch/processor"


class Services:
    """Operator of `ServiceStage`."""

    name = "services"
    source = topics.SIGNALS
    parts = (_STATE,)

    def __init__(self, silence_s: float, orders: OrderBook, registry: CollectorRegistry) -> None:
        self._silence_s = silence_s
        self._orders = orders
        self._reader = Reader(Signal)
        self._firing = Gauge(
            "layerwatch_alerts_firing", "Alerts that fire", ["service", "kind", "severity"], registry=registry
        )
        self._evaluated = Gauge(
            "layerwatch_last_evaluation_timestamp_seconds",
            "Event time up to which a service has been judged",
            ["service"],
            registry=registry,
        )
        self._shown: dict[str, tuple[str, str, str]] = {}  # alert id: labels

    async def prepare(self, value: bytes) -> Signal:
        return self._reader.decode(value)

    def key(self, record: Signal) -> bytes:
        return record.service.encode()

    def keys_wanted(self) -> Iterable[bytes]:
        return ()

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> ServiceStage:
        service = key.decode()
        if _STATE not in parts:
            return ServiceStage(service, self._silence_s)
        return ServiceStage.restore(service, self._silence_s, parts[_STATE])

    def fold(self, state: ServiceStage, record: Signal) -> list[Outgoing]:
        alerts = state.update(record, time.monotonic(), self._orders.marks(record.service))
        self._evaluated.labels(record.service).set(state.clock_s)
        return self._outgoing(alerts)

    def dump(self, state: ServiceStage, *, whole: bool) -> dict[str, bytes]:
        return {_STATE: state.dump()}

    def tick(self, state: ServiceStage, now_s: float) -> list[Outgoing]:
        return self._outgoing(state.tick(now_s))

    def _outgoing(self, alerts: list[Alert]) -> list[Outgoing]:
        out = []
        for alert in alerts:
            self._show(alert)
            value = encode_json(alert)
            headers = cloudevents.headers(
                id=f"{alert.id}-{alert.revision}", type=CE_TYPE, source=_SOURCE, time=alert.updated_at
            )
            out.append(Outgoing(topics.ALERTS, alert.service.encode(), value, headers))
            out.append(Outgoing(topics.ALERTS_CURRENT, alert.id.encode(), value, headers))
        return out

    def _show(self, alert: Alert) -> None:
        before = self._shown.pop(alert.id, None)
        if before is not None:
            self._firing.labels(*before).dec()
        if alert.status == "firing":
            labels = (alert.service, alert.kind, alert.severity)
            self._shown[alert.id] = labels
            self._firing.labels(*labels).inc()
