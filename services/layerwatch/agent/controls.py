"""What the processor wants sampled: follows `layerwatch.control` in a thread of its own."""

from __future__ import annotations

import logging
import math
import threading
import time

from layerwatch.hosting.settings import Settings
from layerwatch.schemas.control import CONTROL_READER, Control
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.topics import CONTROL

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_POLL_MS = 100
#: Orders that are remembered, of all hosts: each agent reads the whole topic.
_MAX_CONTROLS = 100_000


class Controls(threading.Thread):
    """`by_instance` holds the last order for each instance that has not expired; read it from any thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="controls", daemon=True)
        self.by_instance: dict[str, Control] = {}
        self.read = self.refused = 0
        self._settings = settings
        self._stopping = threading.Event()

    def close(self) -> None:
        self._stopping.set()
        self.join(2.0)

    def take(self, value: bytes | None, now_s: float) -> None:
        """One record of the topic."""
        try:
            control = _sound(CONTROL_READER.decode(value or b""))
        except InvalidRecord as error:
            self.refused += 1
            _log.warning("refused an order: %s", error)
            return
        self.read += 1
        if control.expires_s > now_s and len(self.by_instance) < _MAX_CONTROLS:
            self.by_instance[control.instance] = control
        else:
            self.by_instance.pop(control.instance, None)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - without Kafka there are no orders, and baseline holds
                _log.info("cannot read orders yet: %s", error)
                self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        from kafka import TopicPartition

        from layerwatch.hosting import kafka

        consumer = kafka.consumer(self._settings)
        try:
            numbers = consumer.partitions_for_topic(CONTROL) or set()
            if not numbers:
                raise LookupError(f"{CONTROL} is missing: run `layerwatch topics`")
            partitions = [TopicPartition(CONTROL, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=_POLL_MS).values():
                    for record in records:
                        self.take(record.value, time.time())
        finally:
            consumer.close()


def _sound(control: Control) -> Control:
    """The order; raises InvalidRecord where its numbers are none."""
    numbers = (control.expires_s, control.rate or 0.0, control.ceiling_pct or 0.0)
    if not all(math.isfinite(number) for number in numbers) or min(numbers[1:]) < 0:
        raise InvalidRecord("malformed", f"an order for {control.instance} with {numbers}")
    return control
