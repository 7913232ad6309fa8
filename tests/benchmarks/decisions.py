"""The decision centre: from an alert to its decision, and what a thousand services cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from bed import Bed
from history_records import alert_json
from kafka import TopicPartition

from layerwatch.hosting import kafka
from layerwatch.schemas import topics
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import DECISION_READER, Decision
from layerwatch.schemas.times import rfc3339

_ALERTS = 200
_SERVICES, _SECONDS, _EVERY_S = 1000, 60, 5


def latency(machine: Bed) -> dict[str, Any]:
    """From sending an alert's first revision to its decision on the topic, with a thousand services known."""
    waits_ms = []
    with machine.service("decision"):
        producer = kafka.producer(machine.settings)
        for batch in _rounds(_SERVICES, 1, time.time() - 10, "known"):
            for alert in batch:
                producer.send(topics.ALERTS, encode_json(alert), alert.service.encode())
        producer.flush(60)
        _wait_records(machine, _SERVICES)
        consumer = kafka.consumer(machine.settings)
        consumer.assign(
            [TopicPartition(topics.DECISIONS, n) for n in range(machine.settings.kafka.partitions)]
        )
        for batch in _rounds(_ALERTS, 1, time.time(), "asked"):
            for alert in batch:
                time.sleep(0.05)
                while _read(consumer, 1):
                    pass
                began_s = time.monotonic()
                producer.send(topics.ALERTS, encode_json(alert), alert.service.encode()).get(10)
                while not any(d.target.service == alert.service for d in _read(consumer, 5)):
                    pass
                waits_ms.append((time.monotonic() - began_s) * 1e3)
        consumer.close()
        kafka.abandon(producer)
    waits_ms.sort()
    return {
        "p50_ms": round(statistics.median(waits_ms), 1),
        "p95_ms": round(waits_ms[int(0.95 * len(waits_ms))], 1),
        "input": f"{_ALERTS} alerts, {_SERVICES} other services with an alert firing, from sending to the decision on its topic",
    }


def many_services(machine: Bed) -> dict[str, Any]:
    """A thousand services, each with an alert that fires and is revised each five seconds."""
    with machine.service("decision"):
        producer = machine.producer()
        cpu_s, began_s, sent = machine.metric("decision", "process_cpu_seconds_total"), time.monotonic(), 0
        for number, batch in enumerate(_rounds(_SERVICES, _SECONDS // _EVERY_S, time.time(), "many")):
            for i, alert in enumerate(batch):
                _pause(began_s + _EVERY_S * (number + i / _SERVICES))
                producer.send(topics.ALERTS, encode_json(alert), alert.service.encode())
                sent += 1
        producer.flush(60)
        took_s = time.monotonic() - began_s
        behind = sent - machine.metric("decision", "layerwatch_records_total")
        cpu_s = machine.metric("decision", "process_cpu_seconds_total") - cpu_s
        memory = machine.metric("decision", "process_resident_memory_bytes")
        _wait_records(machine, sent)
        kafka.abandon(producer)
    return {
        "services": _SERVICES,
        "cpu_share": round(cpu_s / took_s, 3),
        "behind_at_end": round(behind),
        "resident_mib": round(memory / 2**20),
        "input": f"{_SECONDS} s, an alert firing on each, revised each {_EVERY_S} s, a decision on each, renewed each 30 s",
    }


def _rounds(services: int, rounds: int, start_s: float, name: str) -> Iterator[list[Alert]]:
    """Revisions of one alert a service, one revision a round."""
    template = ALERT_READER.decode(alert_json("template"))
    for number in range(rounds):
        at = rfc3339(start_s + _EVERY_S * number)
        yield [
            msgspec.structs.replace(
                template,
                id=f"a-{name}-{i}",
                revision=number + 1,
                service=f"{name}-{i}",
                started_at=rfc3339(start_s),
                opened_at=rfc3339(start_s),
                updated_at=at,
            )
            for i in range(services)
        ]


def _read(consumer: Any, timeout_ms: int) -> list[Decision]:
    polled = consumer.poll(timeout_ms=timeout_ms).values()
    return [DECISION_READER.decode(record.value) for records in polled for record in records]


def _wait_records(machine: Bed, count: int) -> None:
    deadline_s = time.monotonic() + 120
    while machine.metric("decision", "layerwatch_records_total") < count:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{count} alerts were not heard")
        time.sleep(0.2)


def _pause(until_s: float) -> None:
    if (left_s := until_s - time.monotonic()) > 0:
        time.sleep(left_s)
