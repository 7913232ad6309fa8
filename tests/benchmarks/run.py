"""`make bench`: what the README claims, measured on this machine; one JSON object a line.

Each line has `measure`, its figures with the unit in the name, and the input they were taken on.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import autoscaling
import beside_the_runtime
import control_path
import decisions
import load
import scoring
from bed import Bed, bed
from kafka import TopicPartition

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.hosting import kafka
from layerwatch.schemas import topics
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.codec import encode
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch

_START_S = 1_800_000_000.0


def main() -> None:
    for figures in scoring.measures():
        tell(**figures)
    with tempfile.TemporaryDirectory() as folder:
        measures = (
            start_up,
            throughput,
            instances,
            latency,
            control_path.measure,
            decide,
            autoscaling.measure,
        )
        for measure in measures:
            place = Path(folder) / f"{measure.__module__}.{measure.__name__}"
            with bed(place) as machine:
                measure(machine)
    beside_the_runtime.main()


def tell(measure: str, **figures: Any) -> None:
    print(json.dumps({"measure": measure, **figures, "cpus": os.cpu_count()}), flush=True)


def start_up(machine: Bed) -> None:
    """From nothing to ready, and the memory it has then."""
    for name in ("processor", "decision", "history"):
        with machine.service(name) as ready_s:
            memory = machine.metric(name, "process_resident_memory_bytes")
        tell("start_up", service=name, ready_s=round(ready_s, 2), resident_mib=round(memory / 2**20))


def throughput(machine: Bed) -> None:
    """A backlog of full messages, drained by one processor."""
    count, many = 300, 16
    publish(machine, [load.manifest()], interleaved(many, count, executions=64, sampled=64))
    total = many * count * 64
    with machine.service("processor"):
        rate, cpu_us = drain(machine, total)
    tell(
        "throughput",
        executions_per_s=round(rate),
        cpu_us_per_execution=round(cpu_us, 1),
        input=f"{total} executions, {load.LAYERS} layers, 64 sampled a message, {many} instances",
    )


def instances(machine: Bed) -> None:
    """Many instances at their real pace, 100 executions a second each, 1 % sampled; then a restart of the processor."""
    many, seconds = 400, 30
    publish(machine, [load.manifest()], [])
    with machine.service("processor"):
        paced = [
            load.messages(
                f"i{i}",
                f"s{i % 20}",
                count=seconds,
                executions=100,
                sampled=1,
                start_s=_START_S,
                boot_ms=1,
                offset=7 * i,
            )
            for i in range(many)
        ]
        producer = machine.producer()
        cpu_s, began_s = machine.metric("processor", "process_cpu_seconds_total"), time.monotonic()
        for second, batches in enumerate(zip(*paced, strict=True)):
            for i, batch in enumerate(batches):
                pause(began_s + second + i / many)
                producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch))
        producer.flush(30)
        sent_s = time.monotonic()
        behind = many * seconds * 100 - machine.metric("processor", "layerwatch_executions_total")
        wait_executions(machine, many * seconds * 100)
        cpu_s = machine.metric("processor", "process_cpu_seconds_total") - cpu_s
        memory = machine.metric("processor", "process_resident_memory_bytes")
        kafka.abandon(producer)
        tell(
            "instances",
            instances=many,
            cpu_share=round(cpu_s / (sent_s - began_s), 3),
            behind_at_end_s=round(behind / (many * 100), 2),
            resident_mib=round(memory / 2**20),
            input=f"{seconds} s, 100 executions/s an instance, 1 % sampled, {load.LAYERS} layers",
        )
        time.sleep(machine.settings.processor.checkpoint_s + 1)
    with machine.service("processor") as warm_s:
        pass
    machine.forget_tables()
    with machine.service("processor") as cold_s:
        pass
    tell("recovery", instances=many, warm_s=round(warm_s, 2), from_kafka_s=round(cold_s, 2))


def latency(machine: Bed) -> None:
    """From the message that decides to its alert on the topic, by as many runs as there are instances."""
    recording = load.recording()
    deciding = deciding_messages(recording.manifests, recording)
    publish(machine, recording.manifests, [])
    waits_ms = []
    with machine.service("processor"):
        consumer = kafka.consumer(machine.settings)
        consumer.assign([TopicPartition(topics.ALERTS, n) for n in range(machine.settings.kafka.partitions)])
        producer = machine.producer()
        done = 0
        for run in range(5):
            sent = 0
            batches = [load.renamed(batch, f"r{run}") for batch in recording]
            for index in deciding:
                for batch in batches[sent:index]:
                    producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch))
                    done += len(batch.end_to_end_ms) // 4
                producer.flush(30)
                wait_executions(machine, done)
                drain_alerts(consumer)
                began_s = time.monotonic()
                batch = batches[index]
                producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch)).get(30)
                while not any(alert.revision == 1 for alert in read_alerts(consumer)):
                    pass
                waits_ms.append((time.monotonic() - began_s) * 1e3)
                done += len(batch.end_to_end_ms) // 4
                sent = index + 1
            for batch in batches[sent:]:
                producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch))
                done += len(batch.end_to_end_ms) // 4
        kafka.abandon(producer)
        consumer.close()
    waits_ms.sort()
    tell(
        "publish_to_alert",
        p50_ms=round(statistics.median(waits_ms), 1),
        p95_ms=round(waits_ms[int(0.95 * len(waits_ms))], 1),
        input=f"{len(waits_ms)} alerts of resnet50-h200, from sending the message that decides to its alert on the topic",
    )


def decide(machine: Bed) -> None:
    """The decision centre."""
    tell("alert_to_decision", **decisions.latency(machine))
    tell("decisions", **decisions.many_services(machine))


def deciding_messages(manifests: list[Manifest], batches: Iterable[ProfileBatch]) -> list[int]:
    pipeline = Pipeline()
    for manifest in manifests:
        pipeline.manifest(manifest)
    opened = []
    for index, batch in enumerate(batches):
        alerts, _ = pipeline.update(batch)
        if any(alert.revision == 1 for alert in alerts):
            opened.append(index)
    return opened


def interleaved(many: int, count: int, *, executions: int, sampled: int) -> Iterable[ProfileBatch]:
    each = [
        load.messages(
            f"i{i}",
            f"s{i}",
            count=count,
            executions=executions,
            sampled=sampled,
            start_s=_START_S,
            boot_ms=1,
            offset=97 * i,
        )
        for i in range(many)
    ]
    for batches in zip(*each, strict=True):
        yield from batches


def publish(machine: Bed, manifests: list[Manifest], batches: Iterable[ProfileBatch]) -> None:
    producer = machine.producer()
    for manifest in manifests:
        producer.send(topics.ENGINES, key=manifest.engine.encode(), value=encode(manifest)).get(30)
    for batch in batches:
        producer.send(topics.PROFILES, key=batch.instance.encode(), value=encode(batch))
    producer.flush(120)
    kafka.abandon(producer)


def drain(machine: Bed, total: int) -> tuple[float, float]:
    """Executions a second and CPU us an execution, from the first tenth (warm-up) to the last look before the end."""
    wait_executions(machine, total // 10)
    looks = [_look(machine)]
    while looks[-1][0] < total:
        time.sleep(0.2)  # a scrape costs the service some ms of its one thread
        looks.append(_look(machine))
    (first, began_s, first_cpu_s), (last, ended_s, last_cpu_s) = looks[0], looks[-2]
    return (last - first) / (ended_s - began_s), (last_cpu_s - first_cpu_s) / (last - first) * 1e6


def _look(machine: Bed) -> tuple[float, float, float]:
    """Executions scored, seconds, CPU seconds."""
    done = machine.metric("processor", "layerwatch_executions_total")
    return done, time.monotonic(), machine.metric("processor", "process_cpu_seconds_total")


def wait_executions(machine: Bed, count: float, timeout_s: float = 300.0) -> None:
    end_s = time.monotonic() + timeout_s
    while machine.metric("processor", "layerwatch_executions_total") < count:
        if time.monotonic() > end_s:
            raise TimeoutError(f"{count} executions were not scored within {timeout_s} s")
        time.sleep(0.2)  # a scrape costs the service some ms of its one thread


def read_alerts(consumer: Any) -> list[Any]:
    return [ALERT_READER.decode(r.value) for records in consumer.poll(timeout_ms=5).values() for r in records]


def drain_alerts(consumer: Any) -> None:
    time.sleep(0.3)
    while read_alerts(consumer):
        pass


def pause(until_s: float) -> None:
    left_s = until_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


if __name__ == "__main__":
    main()
