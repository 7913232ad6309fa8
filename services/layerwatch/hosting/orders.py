"""Follows the orders of people: the topic layerwatch.operations, and the kill switch of this machine, which needs no Kafka."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.hosting import kafka
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.operations import ALL, OPERATION_READER, Operation
from layerwatch.schemas.orders import Orders
from layerwatch.schemas.topics import OPERATIONS

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_LOOK_S = 0.5  # between two looks at the kill switch


class OrderBook:
    """The orders as they are known now, from a thread of its own. Its methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.switch = KillSwitch(settings.state_dir)
        self._settings = settings
        self._orders = Orders()
        self._lock = threading.Lock()
        self._switched: dict[str, str] = {}
        self._looked_s = float("-inf")
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    def start(self) -> OrderBook:
        self._thread.start()
        return self

    def wait_loaded(self) -> None:
        """Until all orders that were given before the start are known."""
        self._loaded.wait()

    def take(self, order: Operation) -> bool:
        """An order that comes another way than by Kafka; whether it is news. Raises InvalidRecord."""
        with self._lock:
            return self._orders.take(order)

    def all(self) -> list[Operation]:
        """The last revision of every order, oldest first."""
        with self._lock:
            return self._orders.all()

    def holding(self, service: str, kind: str, at_s: float) -> list[Operation]:
        """The orders of a kind that hold for a service at a moment (unix s)."""
        with self._lock:
            return self._orders.holding(service, kind, at_s)

    def holding_anywhere(self, kind: str, at_s: float) -> list[Operation]:
        """The orders of a kind that hold for any service at a moment (unix s)."""
        with self._lock:
            return self._orders.holding_anywhere(kind, at_s)

    def marks(self, service: str) -> list[Operation]:
        """All deployments and changes that were told of a service, oldest first."""
        with self._lock:
            return self._orders.marks(service)

    def silencing(self, alert: Alert, at_s: float) -> Operation | None:
        """The silence that holds an alert back at a moment (unix s), if one does."""
        with self._lock:
            return self._orders.silencing(alert, at_s)

    def killed(self, service: str, at_s: float) -> str | None:
        """Why decisions on a service are switched off at a moment (unix s); None while they are not."""
        switched = self._look()
        if service in switched or ALL in switched:
            return switched.get(service, switched.get(ALL))
        with self._lock:
            order = self._orders.killed(service, at_s)
        return None if order is None else f"{order.reason or 'no reason given'} ({order.author or 'unknown'})"

    def look(self) -> None:
        """Look at the kill switch at the next question, however short a time ago it was looked at."""
        self._looked_s = float("-inf")

    def _look(self) -> dict[str, str]:
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._switched = self.switch.killed()
            self._looked_s = time.monotonic()
        return self._switched

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (KafkaError, Unavailable) as error:
                log.warning("orders: %s; trying again", error)
                time.sleep(_RETRY_S)

    def _follow(self) -> None:
        consumer = kafka.consumer(self._settings)
        try:
            partition = TopicPartition(OPERATIONS, 0)
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            end = consumer.end_offsets([partition])[partition]
            while True:
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        self._read(record)
                if not self._loaded.is_set() and (consumer.position(partition) or 0) >= end:
                    self._loaded.set()
        finally:
            consumer.close()

    def _read(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            self.take(OPERATION_READER.decode(record.value))
        except InvalidRecord as error:
            log.warning("refused %s/%d/%d: %s", record.topic, record.partition, record.offset, error)
