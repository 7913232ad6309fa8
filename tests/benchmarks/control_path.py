"""How soon sampling is raised: from the message that decides to its order on the topic, and from there to the runtime."""

from __future__ import annotations

import json
import os
import statistics
import time
from typing import Any

import load
from bed import Bed
from fake_runtime import serving
from kafka import TopicPartition

from layerwatch.hosting import kafka
from layerwatch.schemas import topics
from layerwatch.schemas.codec import encode
from layerwatch.schemas.control import CONTROL_READER, Control, Tier

_TIMES = 20


def measure(machine: Bed) -> None:
    """One line: both ways, and what they come to."""
    decided = _deciding(machine)
    shown = _showing(machine)
    figures = {
        "order_p50_ms": round(statistics.median(decided), 1),
        "order_most_ms": round(max(decided), 1),
        "to_probe_p50_ms": round(statistics.median(shown), 1),
        "to_probe_most_ms": round(max(shown), 1),
        "together_most_ms": round(max(decided) + max(shown), 1),
        "input": f"{_TIMES} new builds, from sending their message to the order; {_TIMES} orders, to the runtime's page",
    }
    print(json.dumps({"measure": "control", **figures, "cpus": os.cpu_count()}), flush=True)


def _deciding(machine: Bed) -> list[float]:
    recording = load.recording()
    waits_ms = []
    with machine.service("processor"):
        consumer = kafka.consumer(machine.settings)
        partitions = [TopicPartition(topics.CONTROL, n) for n in range(machine.settings.kafka.partitions)]
        consumer.assign(partitions)
        for partition, offset in consumer.end_offsets(partitions).items():
            consumer.seek(partition, offset)
        producer = machine.producer()
        for manifest in recording.manifests:
            producer.send(topics.ENGINES, key=manifest.engine.encode(), value=encode(manifest)).get(30)
        first = recording.batches[0]
        for number in range(_TIMES + 1):
            batch = load.renamed(first, f"control-{number}")
            began_s = time.monotonic()
            producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch)).get(30)
            while not _orders_for(consumer, batch.instance):
                pass
            waits_ms.append((time.monotonic() - began_s) * 1e3)
        kafka.abandon(producer)
        consumer.close()
    return waits_ms[1:]  # the first one waits for the manifest


def _orders_for(consumer: Any, instance: str) -> bool:
    records = [record for records in consumer.poll(timeout_ms=5).values() for record in records]
    return any(CONTROL_READER.decode(record.value or b"").instance == instance for record in records)


def _showing(machine: Bed) -> list[float]:
    waits_ms = []
    with machine.service("agent"), serving(machine.settings.agent.folder, "watched") as probe:
        producer = machine.producer()
        time.sleep(2.0)  # until the agent has found it
        for number in range(_TIMES):
            tier: Tier = ("evidence", "canary")[number % 2]
            now_s = time.time()
            order = Control(
                service="bert-qa", instance="watched", tier=tier, issued_s=now_s, expires_s=now_s + 15
            )
            began_s = time.monotonic()
            producer.send(topics.CONTROL, key=b"watched", value=encode(order)).get(30)
            while probe.tier != tier:
                time.sleep(0.001)
            waits_ms.append((time.monotonic() - began_s) * 1e3)
            time.sleep(0.05)
        kafka.abandon(producer)
    return waits_ms
