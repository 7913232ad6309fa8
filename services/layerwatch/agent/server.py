"""Runs the agent."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from layerwatch.agent.agent import Agent
from layerwatch.agent.controls import Controls
from layerwatch.agent.gpu import GpuCounters, dcgm, nvml
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.metrics import AgentMetrics
from layerwatch.agent.publisher import Publisher
from layerwatch.agent.routes import Routes
from layerwatch.agent.sinks import FileSink, Sink
from layerwatch.hosting.follower import Follower
from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.lock import Lock
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.runtimes import LOCK_NAME
from layerwatch.schemas.topics import CONTROL, DECISIONS_CURRENT

_log = logging.getLogger(__name__)

#: Rings are read so often (s).
_POLL_S = 0.05
_STUCK_S = 15.0


def run(settings: Settings, to: Path | None, stop: Callable[[], bool]) -> None:
    """Until `stop`. Writes to the file `to` instead of Kafka where it is given. Raises ConfigError."""
    own = settings.agent
    if to is None:
        # Now, rather than in the publisher's thread: it takes long enough for rings to overflow meanwhile.
        importlib.import_module("layerwatch.hosting.kafka")
    lock, inbox = _open(own.folder)
    sink: Sink = FileSink(to) if to is not None else Publisher(settings)
    gpu = _gpu(own.dcgm_url)
    controls = Controls()
    routes = Routes()

    def take(topic: str, value: bytes | None) -> None:
        (controls if topic == CONTROL else routes).take(value)

    orders = Follower(settings, [CONTROL, DECISIONS_CURRENT], take) if to is None else None
    agent = Agent(
        own.folder,
        sink,
        inbox,
        clock=time.time,
        gpu=gpu,
        controls=controls.by_instance,
        routes=routes,
        routes_loaded=orders.loaded.is_set if orders is not None else lambda: True,
        window_s=own.window_s,
        ceiling_pct=own.ceiling_pct,
        raised_ceiling_pct=own.raised_ceiling_pct,
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(AgentMetrics(agent, sink, gpu))
    ticked_s = [time.monotonic()]

    def problem() -> str | None:
        stuck_s = time.monotonic() - ticked_s[0]
        return f"nothing has been read for {stuck_s:.0f} s" if stuck_s > _STUCK_S else None

    health = HealthServer(own.http_port, registry, problem, lambda: True, host=settings.http_host).start()
    if orders is not None:
        orders.start()
    inbox.listen()
    _log.info("watching %s", own.folder)
    try:
        while not stop():
            agent.step()
            ticked_s[0] = time.monotonic()
            time.sleep(_POLL_S)
    finally:
        agent.close()
        sink.close()
        for part in (orders, gpu, health):
            if part is not None:
                part.close()
        lock.release()


def _open(folder: Path) -> tuple[Lock, Inbox]:
    """The folder, for this agent alone."""
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                folder.chmod(0o1777)  # runtimes of all users come here
        lock = Lock(folder / LOCK_NAME)
    except ConfigError as error:
        raise ConfigError(
            f"another agent serves {folder}: stop it, or set LAYERWATCH_AGENT__FOLDER ({error})"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot use {folder} ({error}): set LAYERWATCH_AGENT__FOLDER") from error
    try:
        return lock, Inbox(folder)
    except OSError as error:
        lock.release()
        raise ConfigError(f"cannot listen in {folder} ({error}): set LAYERWATCH_AGENT__FOLDER") from error


def _gpu(dcgm_url: str | None) -> GpuCounters | None:
    """From the exporter where one is named, else from NVML, else none."""
    if dcgm_url:
        return dcgm(dcgm_url).start()
    try:
        return nvml().start()
    except Exception as error:  # noqa: BLE001 - no package, no driver, no GPU: executions are told without
        _log.info("no GPU counters (%r): pip install nvidia-ml-py, or set LAYERWATCH_AGENT__DCGM_URL", error)
        return None
