"""All stages in one process: the very logic that runs on Kafka, for a file."""

from __future__ import annotations

import msgspec

from layerwatch.detectors.deciding.policy import shipped_policy
from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.decision_stage import GRACE_S, DecisionStage
from layerwatch.detectors.instance_stage import InstanceStage, no_priors
from layerwatch.detectors.models import Models, shipped
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.control import Control
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.engines import Manifest, merged
from layerwatch.schemas.profiles import ProfileBatch


class Pipeline:
    """Instances to alerts to decisions.

    Example:
        pipeline = Pipeline()
        for manifest in recording.manifests:
            pipeline.manifest(manifest)
        for batch in recording:
            alerts, decisions = pipeline.update(batch)
    """

    def __init__(self, models: Models | None = None, rules: Rules | None = None) -> None:
        self._models = models or shipped()
        self._rules = rules or Rules(shipped_policy())
        self._manifests: dict[str, Manifest] = {}
        self._instances: dict[str, InstanceStage] = {}
        self._services: dict[str, ServiceStage] = {}
        self._decisions: dict[str, DecisionStage] = {}
        self._priors = no_priors()
        self._last: dict[str, ProfileBatch] = {}  # of each instance that has not left
        self.orders: list[Control] = []  # what the latest message led to for `layerwatch.control`

    def manifest(self, manifest: Manifest) -> None:
        self._manifests[manifest.engine] = merged(self._manifests.get(manifest.engine), manifest)

    def update(self, batch: ProfileBatch) -> tuple[list[Alert], list[Decision]]:
        """What a message adds to the alerts and decisions topics; raises InvalidRecord, and nothing has changed then."""
        self.orders = []
        if batch.instance not in self._instances:
            self._instances[batch.instance] = InstanceStage(self._manifests, self._models, self._priors)
        signal = self._instances[batch.instance].update(batch)
        if signal is None:
            return [], []
        for record in self._instances[batch.instance].told_priors(batch):
            self._priors.take(record)
        self._last[batch.instance] = batch
        if batch.state == "leaving":
            del self._last[batch.instance]
        if not self._instances[batch.instance].is_news(signal):
            return [], self._advance(batch)
        service = self._services.setdefault(
            batch.service, ServiceStage(batch.service, silence_s=float("inf"))
        )
        alerts = service.update(signal, now_s=0.0)
        self.orders = service.orders
        return alerts, [*self._decide(alerts), *self._advance(batch)]

    def finish(self) -> tuple[list[Alert], list[Decision]]:
        """The input has ended: every instance leaves, and event time goes on until every lease has ended."""
        alerts: list[Alert] = []
        decisions: list[Decision] = []
        for batch in list(self._last.values()):
            left = self.update(_farewell(batch))
            alerts += left[0]
            decisions += left[1]
        for stage in self._decisions.values():
            while not stage.idle:
                decisions += stage.advance(stage.clock_s + self._rules.policy.lease_s).decisions
        return alerts, decisions

    def _decide(self, alerts: list[Alert]) -> list[Decision]:
        out = []
        for alert in alerts:
            stage = self._decisions.setdefault(alert.service, DecisionStage(alert.service, self._rules))
            out += stage.update(alert).decisions
        return out

    def _advance(self, batch: ProfileBatch) -> list[Decision]:
        """Between alerts, the instances' clock is the clock of the decisions."""
        stage = self._decisions.get(batch.service)
        return [] if stage is None or stage.idle else stage.advance(batch.window_end_s - GRACE_S).decisions


def _farewell(last: ProfileBatch) -> ProfileBatch:
    nothing = dict.fromkeys(
        ("times_s", "shape_index", "profile_index", "flags", "end_to_end_ms", "host_ms", "counters"), b""
    )
    return msgspec.structs.replace(
        last,
        sequence=last.sequence + 1,
        window_start_s=last.window_end_s,
        state="leaving",
        shapes=[],
        layers=[],
        precision=None,
        **nothing,
    )
