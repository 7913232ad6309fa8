"""Second operator: signals to alerts and load, by service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from layerwatch.detectors.load.lstm import LoadLstm
from layerwatch.detectors.load.planner import Goal
from layerwatch.detectors.load.stage import LoadStage
from layerwatch.detectors.sampling_policy import Mode
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.hosting.operator import Outgoing
from layerwatch.hosting.orders import OrderBook
from layerwatch.schemas import cloudevents, load, topics
from layerwatch.schemas.alerts import CE_TYPE, Alert
from layerwatch.schemas.codec import Reader, encode, encode_json
from layerwatch.schemas.signals import Signal

_STATE, _LOAD, _PLANNER = "state", "load", "planner"
_SOURCE = "/layerwatch/processor"


@dataclass(slots=True)
class _Service:
    """Both stages know repeats by themselves, so that their parts may be written one after the other."""

    stage: ServiceStage
    load: LoadStage
    written_s: float = 0.0  # the last block of which the planner's state was dumped


class Services:
    """Operator of `ServiceStage` and `LoadStage`. `goal` is what people say of a service."""

    name = "services"
    source = topics.SIGNALS
    parts = (_STATE, _LOAD, _PLANNER)

    def __init__(
        self,
        silence_s: float,
        orders: OrderBook,
        registry: CollectorRegistry,
        goal: Callable[[str], Goal],
        lstm: LoadLstm | None,
        sampling: Mode = "auto",
    ) -> None:
        self._silence_s = silence_s
        self._orders = orders
        self._goal = goal
        self._lstm = lstm
        self._sampling = sampling
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
        self._ordered = Counter(
            "layerwatch_sampling_orders", "Orders to instances of what to sample", ["tier"], registry=registry
        )
        self._slow_path = Gauge(
            "layerwatch_slow_path_instances",
            "Instances by what their slow path can do: learning, watching, or degraded (what creeps is told as info only)",
            ["service", "state"],
            registry=registry,
        )
        self._shown: dict[str, tuple[str, str, str]] = {}  # alert id: labels
        self._slow: dict[str, tuple[str, str]] = {}  # instance: labels

    async def prepare(self, value: bytes) -> Signal:
        return self._reader.decode(value)

    def key(self, record: Signal) -> bytes:
        return record.service.encode()

    def keys_wanted(self) -> Iterable[bytes]:
        return ()

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> _Service:
        service = key.decode()
        stage = ServiceStage(service, self._silence_s, self._sampling)
        if _STATE in parts:
            stage = ServiceStage.restore(service, self._silence_s, parts[_STATE], self._sampling)
        goal = self._goal(service)
        load = LoadStage.restore(service, goal, self._lstm, parts.get(_LOAD), parts.get(_PLANNER))
        return _Service(stage, load, load.planned_s)

    def fold(self, state: _Service, record: Signal) -> list[Outgoing]:
        alerts = state.stage.update(record, time.monotonic(), self._orders.marks(record.service))
        loads = state.load.update(record)
        self._evaluated.labels(record.service).set(state.stage.clock_s)
        self._show_slow_path(record)
        out = self._outgoing(alerts) + [_load(told) for told in loads]
        for order in state.stage.orders:
            self._ordered.labels(order.tier).inc()
            out.append(Outgoing(topics.CONTROL, order.instance.encode(), encode(order)))
        return out

    def dump(self, state: _Service, *, whole: bool) -> dict[str, bytes]:
        parts = {_STATE: state.stage.dump(), _LOAD: state.load.dump_open()}
        if whole or state.load.planned_s != state.written_s:
            parts[_PLANNER] = state.load.dump_planner()
            state.written_s = state.load.planned_s
        return parts

    def tick(self, state: _Service, now_s: float) -> list[Outgoing]:
        return self._outgoing(state.stage.tick(now_s))

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

    def _show_slow_path(self, signal: Signal) -> None:
        gone = signal.state in ("leaving", "crashed")
        labels = None if gone else (signal.service, signal.slow_path)
        before = self._slow.pop(signal.instance, None)
        if labels is not None:
            self._slow[signal.instance] = labels
        if labels != before:
            for changed, by in ((before, -1), (labels, 1)):
                if changed is not None:
                    self._slow_path.labels(*changed).inc(by)


def _load(told: load.Load) -> Outgoing:
    headers = cloudevents.headers(
        id=f"{told.service}-{told.at}", type=load.CE_TYPE, source=_SOURCE, time=told.at
    )
    return Outgoing(topics.LOAD, told.service.encode(), encode_json(told), headers)
