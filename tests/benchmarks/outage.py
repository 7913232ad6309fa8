"""The agent while Kafka is dead: its memory, and what is missing afterwards. `outage.py [SECONDS]`, 600 by default; a JSON line.

Runtimes execute 50 000 times a second, as in `make bench`; the broker is killed after half a minute, started again after so many
seconds, and each message that reached it is counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import ring_load
from bed import Bed
from brokers import LIBS, free_port
from kafka import TopicPartition

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas import topics
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.profiles import ProfileBatch

_PER_S = 50_000
_BEFORE_S = _AFTER_S = 30.0
_LOOK_EVERY_S = 5.0


def main(outage_s: float = 600.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        broker = LocalBroker(Path(folder) / "kafka", LIBS, free_port()).start()
        try:
            machine = Bed(Path(folder), broker)
            with machine.service("agent"):
                outage(machine, broker, outage_s)
        finally:
            broker.stop()


def outage(machine: Bed, broker: LocalBroker, outage_s: float) -> None:
    seconds = _BEFORE_S + outage_s + _AFTER_S
    load = subprocess.Popen(
        [sys.executable, ring_load.__file__, str(machine.settings.agent.folder), str(_PER_S), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    before_mib = most_mib(machine, _BEFORE_S)
    broker.kill()
    during_mib = most_mib(machine, outage_s)
    broker.start()
    after_mib = most_mib(machine, _AFTER_S)
    written, per_s, _ = map(int, load.communicate()[0].split())
    while machine.metric("agent", "layerwatch_agent_runtimes") or records(machine)["waiting"]:
        time.sleep(0.1)
    counted = records(machine)
    arrived, missing = messages(machine.settings)
    told = int(machine.metric("agent", "layerwatch_agent_executions_total"))
    lost = int(machine.metric("agent", "layerwatch_agent_lost_executions_total"))
    print(
        json.dumps(
            {
                "measure": "kafka_outage",
                "outage_s": outage_s,
                "executions_per_s": per_s,
                "resident_mib": {"before": before_mib, "during": during_mib, "after": after_mib},
                "executions": written,
                "executions_told": told,
                "executions_counted_lost": lost,
                "messages_arrived": arrived,
                "messages_missing": missing,
                "records_counted_dropped": counted["dropped"],
                "records_failed": counted["failed"],
                "cpus": os.cpu_count(),
            }
        )
    )


def most_mib(machine: Bed, for_s: float) -> int:
    """Of the agent's resident memory over some time; tells how long is left."""
    until_s, most = time.monotonic() + for_s, 0.0
    while (left_s := until_s - time.monotonic()) > 0:
        most = max(most, machine.metric("agent", "process_resident_memory_bytes") / 2**20)
        print(f"\r{left_s:4.0f} s left, {most:.0f} MiB ", end="", file=sys.stderr, flush=True)
        time.sleep(min(_LOOK_EVERY_S, left_s))
    return round(most)


def records(machine: Bed) -> dict[str, int]:
    """What became of the agent's records."""
    name = "layerwatch_agent_records_total"
    found = {fate: int(machine.metric("agent", name, fate=fate)) for fate in _FATES}
    return found | {"waiting": found["offered"] - found["acked"] - found["failed"] - found["dropped"]}


_FATES = ("offered", "acked", "failed", "dropped")


def messages(settings: Settings) -> tuple[int, int]:
    """Of executions in Kafka, and those that the numbers of each instance's others show to be missing."""
    reader = kafka.consumer(settings)
    partitions = [TopicPartition(topics.PROFILES, p) for p in range(settings.kafka.partitions)]
    reader.assign(partitions)
    reader.seek_to_beginning()
    ends, decode = reader.end_offsets(partitions), Reader(ProfileBatch).decode
    numbers: dict[str, set[int]] = {}
    while any((reader.position(p) or 0) < ends[p] for p in partitions):
        for found in reader.poll(500).values():
            for record in found:
                batch = decode(record.value or b"")
                numbers.setdefault(batch.instance, set()).add(batch.sequence)
    reader.close()
    arrived = sum(map(len, numbers.values()))
    return arrived, sum(max(seen) + 1 for seen in numbers.values()) - arrived


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
