"""A broker and services of ours as processes, to be measured."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brokers import LIBS, free_port
from prometheus_client.parser import text_string_to_metric_families

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, topics
from layerwatch.hosting.child import Child
from layerwatch.hosting.environment import environment
from layerwatch.hosting.kafka_types import Producer
from layerwatch.hosting.settings import Settings

_READY_S = 120.0


class Bed:
    """A broker in a folder, and one process of each service at a time."""

    def __init__(self, folder: Path, broker: LocalBroker) -> None:
        self.folder = folder
        self.settings = Settings.model_validate(
            {
                "state_dir": folder,
                "kafka": {"port": broker.port, "partitions": 8},
                "processor": {"http_port": free_port(), "silence_s": 3600},
                "agent": {"http_port": free_port(), "folder": folder / "shared"},
                "decision": {"http_port": free_port()},
                "history": {"http_port": free_port()},
                "scaler": {"http_port": free_port(), "grpc_port": free_port()},
                "log": {"level": "error", "format": "json"},
            }
        )
        topics.ensure(self.settings)

    @contextmanager
    def service(self, name: str) -> Iterator[float]:
        """Run a service; gives the seconds from its start until it was ready."""
        url = self._url(name, "readyz")
        child = Child(
            name, (sys.executable, "-m", "layerwatch.cli.main", name), url, env=environment(self.settings)
        )
        began_s = time.monotonic()
        child.launch()
        try:
            while not child.ready():
                if time.monotonic() - began_s > _READY_S:
                    raise TimeoutError(f"{name} is not ready")
                time.sleep(0.02)
            yield time.monotonic() - began_s
        finally:
            child.stop()

    def metric(self, service: str, name: str, **labels: str) -> float:
        """Sum of a metric's samples with these labels on a service's /metrics; 0 where there is none."""
        with urllib.request.urlopen(self._url(service, "metrics"), timeout=10) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        samples = [s for family in families for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def producer(self) -> Producer:
        return kafka.producer(self.settings, linger_ms=20)

    def forget_tables(self) -> None:
        """Delete the local copies of the tables, as on a new machine."""
        shutil.rmtree(self.folder / "streams")

    def _url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{getattr(self.settings, service).http_port}/{path}"


@contextmanager
def bed(folder: Path) -> Iterator[Bed]:
    broker = LocalBroker(folder / "kafka", LIBS, free_port()).start()
    try:
        yield Bed(folder, broker)
    finally:
        broker.stop()
