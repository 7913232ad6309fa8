"""The simulated service watched over loopback: a real Kafka, all services as processes, the scaler asked as Prometheus asks it."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from layerwatch.cli.follow import Follower
from layerwatch.cli.progress import Progress
from layerwatch.cli.stack import Stack, url
from layerwatch.evaluation.loop.engines import FP16
from layerwatch.evaluation.loop.world import ADDED, LENGTH_S, REPLICAS, STARTUP_S, Story, World
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.recording.outbox import Outbox
from layerwatch.recording.pace import Pace
from layerwatch.schemas import topics
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.codec import encode
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.profiles import ProfileBatch

_SERVICE = "simulated"
_ASK_S = 2.0

#: Event seconds that the processor may be behind before the service waits for it, and for how long (s). It tells a service's time when
#: there is news, and else every five seconds.
_BEHIND_S, _PATIENCE_S = 10.0, 60.0
_LOOK_S = 0.02

_SERVICES = f"""\
[services.{_SERVICE}]
mode = "enforce"
fallback = "{FP16.name}"
startup_s = {STARTUP_S:g}
max_share = 1.0
min_replicas = {REPLICAS}
max_replicas = {REPLICAS + ADDED}
"""


class Loopback:
    """`Watching` through a running stack. An answer that is not there changes nothing: replicas stay as they are."""

    def __init__(self, stack: Stack, start_s: float, speed: float) -> None:
        self._producer = kafka.producer(stack.settings)
        self._outbox = Outbox(self._producer)
        self._follower = Follower(stack.settings, lambda _: None)
        self._read = 0, 0  # alerts and decisions
        self._pace = Pace(speed, start_s)
        self._processor, self._scaler = (
            f"{url(stack.settings, name)}/metrics" for name in ("processor", "scaler")
        )
        self._replicas = 0
        self._start_s, self._judged_s = start_s, start_s

    def manifest(self, manifest: Manifest) -> None:
        self._outbox.send(topics.ENGINES, manifest.engine, encode(manifest))
        self._outbox.settle()

    def update(self, batch: ProfileBatch) -> None:
        self._outbox.send(topics.PROFILES, batch.instance, encode(batch))

    def told(self, now_s: float) -> tuple[list[Alert], list[Decision]]:
        self._outbox.settle()
        self._pace.wait(now_s, lambda: False)
        self._wait_judged(now_s - _BEHIND_S)
        self._follower.poll()
        alerts, decisions = self._read
        self._read = len(self._follower.alerts), len(self._follower.decisions)
        return self._follower.alerts[alerts:], self._follower.decisions[decisions:]

    def replicas(self, there: int, now_s: float) -> int:
        asked = _number(self._scaler, "layerwatch_recommended_replicas")
        if asked is not None:
            self._replicas = int(asked)
        return max(there, self._replicas)

    def _wait_judged(self, until_s: float) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while until_s > max(self._judged_s, self._start_s):
            self._judged_s = _number(self._processor, "layerwatch_last_evaluation_timestamp_seconds") or 0.0
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"the processor has not caught up within {_PATIENCE_S:g} s: see what it logs"
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        kafka.abandon(self._producer)
        self._follower.close()


def _number(url: str, name: str) -> float | None:
    """The service's sample on a page of metrics; None while there is none."""
    with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
        text: str = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels.get("service") == _SERVICE:
                return float(sample.value)
    return None


def run(settings: Settings, folder: Path, speed: float) -> Story:
    """Start everything, let the service run with the loop closed, stop everything. `folder` takes its services.toml.

    The service begins in the present. At a `speed` (seconds of it a second) above 1 it runs ahead of the clock: what layerwatch does by
    the clock then, the end of a way back first of all, is not seen in it.

    Raises ConfigError where something runs in this state_dir already, Unavailable where something does not start.
    """
    services = folder / "services.toml"
    services.write_text(_SERVICES, encoding="utf-8")
    stack = Stack(settings.model_copy(update={"services": services}))
    try:
        stack.start().wait_ready(90)
        start_s = float(round(time.time()))
        loopback = Loopback(stack, start_s, speed)
        try:
            with Progress("loop closed, over loopback", LENGTH_S, "s") as progress:
                return World(loopback, closed=True, start_s=start_s).run(progress)
        finally:
            loopback.close()
    finally:
        stack.stop()
