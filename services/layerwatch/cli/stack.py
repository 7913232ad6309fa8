"""Everything on one machine: the local Kafka, the topics, and the services as child processes."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from layerwatch.broker import jars
from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.child import Child
from layerwatch.hosting.environment import environment
from layerwatch.hosting.lock import Lock
from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.supervise import Supervisor

_ALWAYS = ("processor", "decision", "history")


def wanted(settings: Settings) -> tuple[str, ...]:
    """Services that are to run: the notifier once somebody is to be told, the scaler once a number of replicas can be told.

    Raises ConfigError for a bad services.toml.
    """
    said = load_services(settings.services)
    every = (said.defaults, *said.services.values())
    scaled = any(s.target_latency_ms is not None or s.mode == "enforce" for s in every)
    return (*_ALWAYS, *(["notify"] if said.channels else []), *(["scaler"] if scaled else []))


class Stack:
    """The services on one machine, from `start` to `stop`. `children` stand in for the services in tests."""

    def __init__(self, settings: Settings, children: Sequence[Child] | None = None) -> None:
        self.settings = _with_ports(settings)
        self._lock: Lock | None = None
        self._libs = settings.state_dir / "kafka-libs"
        self._broker: LocalBroker | None = None
        if not settings.kafka.bootstrap:
            self._broker = LocalBroker(settings.state_dir / "kafka", self._libs, settings.kafka.port)
        self._kafka = Supervisor([self._broker] if self._broker else [])
        self._services = Supervisor(services(self.settings) if children is None else children)

    @property
    def pids(self) -> dict[str, int | None]:
        """Process id by name (broker, processor, decision, history); None while one waits to be started again."""
        return self._kafka.pids | self._services.pids

    def start(self) -> Stack:
        """Kafka, the topics, then the services; call `stop` whatever happens.

        Raises ConfigError when another one runs on the same state_dir or a port is taken, Unavailable without Kafka.
        """
        self._lock = Lock(self.settings.state_dir / "up.lock")
        if self._broker is not None:
            jars.ensure(self._libs)
            self._broker.start()
        self._kafka.start()
        topics.ensure(self.settings)
        self._services.start()
        return self

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once Kafka and every service's /readyz answer; raises Unavailable naming what does not."""
        self._kafka.wait_ready(timeout_s)
        self._services.wait_ready(timeout_s)

    def stop(self) -> None:
        """Services first, Kafka last; leaves no process."""
        self._services.stop()
        self._kafka.stop()
        if self._lock is not None:
            self._lock.release()

    def kill(self) -> None:
        """Kill everything at once; `stop` still follows."""
        self._services.kill()
        self._kafka.kill()


def services(settings: Settings) -> list[Child]:
    """The services as child processes with exactly these settings."""
    log = settings.log
    if log.format == "auto":  # what a child's own stderr is depends on ours
        log = log.model_copy(update={"format": "console" if sys.stderr.isatty() else "json"})
    env = environment(settings.model_copy(update={"log": log}))
    return [
        Child(
            name,
            (sys.executable, "-m", "layerwatch.cli.main", name),
            f"{url(settings, name)}/readyz",
            env=env,
        )
        for name in wanted(settings)
    ]


def url(settings: Settings, service: str) -> str:
    """Where a service listens on this machine."""
    return f"http://127.0.0.1:{getattr(settings, service).http_port}"


def _with_ports(settings: Settings) -> Settings:
    """The settings with a free port wherever a service would pick one itself: it must be known here."""
    update = {}
    for name in wanted(settings):
        section = getattr(settings, name)
        if section.http_port == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                update[name] = section.model_copy(update={"http_port": free.getsockname()[1]})
    return settings.model_copy(update=update)
