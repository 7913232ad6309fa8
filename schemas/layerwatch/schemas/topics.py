"""The topics, declared once. `layerwatch topics` creates and checks them."""

from __future__ import annotations

import msgspec

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000

ENGINES = "layerwatch.engines"
BASELINES = "layerwatch.baselines"
PROFILES = "layerwatch.profiles"
SIGNALS = "layerwatch.signals"
FEATURES = "layerwatch.features"
MODELS = "layerwatch.models"
LOAD = "layerwatch.load"
ALERTS = "layerwatch.alerts"
ALERTS_CURRENT = "layerwatch.alerts.current"
DECISIONS = "layerwatch.decisions"
DECISIONS_CURRENT = "layerwatch.decisions.current"
AUDIT = "layerwatch.audit"
CONTROL = "layerwatch.control"
OPERATIONS = "layerwatch.operations"
DEADLETTER = "layerwatch.deadletter"


class Topic(msgspec.Struct, frozen=True):
    """A topic as it must be; `retention_ms` of None means compacted: the last record of each key is kept."""

    name: str
    key: str
    retention_ms: int | None
    #: Read as a whole by every process instead of being shared out: one partition.
    catalogue: bool = False
    max_message_bytes: int = 1_000_000
    #: Kafka deletes whole segments: one that is written for long keeps what is older than the retention.
    segment_ms: int | None = None

    def partitions(self, shared_out: int) -> int:
        return 1 if self.catalogue else shared_out

    def config(self) -> dict[str, str]:
        config = {"max.message.bytes": str(self.max_message_bytes)}
        if self.retention_ms is None:
            config["cleanup.policy"] = "compact"
        else:
            config |= {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        if self.segment_ms is not None:
            config["segment.ms"] = str(self.segment_ms)
        return config


#: State of the stream applications, written by faust's tables; named by faust.
_CHANGELOGS = (
    Topic("layerwatch-processor-instances-changelog", "instance, part", None),
    Topic("layerwatch-processor-services-changelog", "service, part", None),
    Topic("layerwatch-decision-decisions-changelog", "service, part", None),
)

TOPICS = (
    Topic(ENGINES, "engine build/profiles", None, catalogue=True),
    Topic(BASELINES, "engine build/part", None, catalogue=True),
    Topic(PROFILES, "instance", _DAY_MS),
    Topic(SIGNALS, "service", _DAY_MS),
    Topic(FEATURES, "engine build", 7 * _DAY_MS),
    Topic(MODELS, "build/kind/stream", None, catalogue=True),
    # Read as a whole at the start of a reader, and worth nothing once it is a minute old.
    Topic(LOAD, "service", 30 * _MINUTE_MS, segment_ms=5 * _MINUTE_MS),
    Topic(ALERTS, "service", 30 * _DAY_MS),
    Topic(ALERTS_CURRENT, "alert id", None),
    Topic(DECISIONS, "target", 30 * _DAY_MS),
    Topic(DECISIONS_CURRENT, "target", None),
    Topic(AUDIT, "service", 400 * _DAY_MS),
    Topic(CONTROL, "instance", None),
    Topic(OPERATIONS, "order id", None, catalogue=True),
    Topic(DEADLETTER, "source topic", 7 * _DAY_MS, catalogue=True),
    *_CHANGELOGS,
)
