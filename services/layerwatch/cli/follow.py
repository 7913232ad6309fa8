"""Follows the topics of alerts and decisions and tells each step as a line."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka import TopicPartition

from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas import topics
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.decisions import DECISION_READER, Decision

_QUIET_S = 3.0


class Follower:
    """From now on; `tell` takes a line. What was read is in `alerts` and `decisions`, every revision."""

    def __init__(self, settings: Settings, tell: Callable[[str], object]) -> None:
        self.alerts: list[Alert] = []
        self.decisions: list[Decision] = []
        self._tell = tell
        self._consumer = kafka.consumer(settings)
        numbers = range(settings.kafka.partitions)
        partitions = [TopicPartition(t, n) for t in (topics.ALERTS, topics.DECISIONS) for n in numbers]
        self._consumer.assign(partitions)
        for partition, end in self._consumer.end_offsets(partitions).items():
            self._consumer.seek(partition, end)

    def poll(self, _: int = 0) -> None:
        """Take what has come. Can stand for a progress callback."""
        self._take(0)

    def close(self) -> None:
        self._consumer.close()

    def _take(self, timeout_ms: float) -> int:
        count = 0
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                count += 1
                if record.topic == topics.ALERTS:
                    self._alert(ALERT_READER.decode(record.value or b""))
                else:
                    self._decision(DECISION_READER.decode(record.value or b""))
        return count

    def until_quiet(self, timeout_s: float) -> None:
        """Return when nothing fires and nothing has come for some seconds, or the time is over."""
        end_s, heard_s = time.monotonic() + timeout_s, time.monotonic()
        while time.monotonic() < end_s and (self._firing() or time.monotonic() - heard_s < _QUIET_S):
            if self._take(200):
                heard_s = time.monotonic()

    def _firing(self) -> bool:
        last = {alert.id: alert.status for alert in self.alerts}
        return "firing" in last.values()

    def _alert(self, alert: Alert) -> None:
        self.alerts.append(alert)
        cause = alert.causes[0]
        if alert.revision == 1:
            self._tell(
                f"{_clock(alert.opened_at)} ALERT     {alert.severity}: {alert.summary}\n"
                f"{'':12} because   {cause.cause} ({cause.confidence:.0%}): {cause.evidence}"
            )
        elif alert.status == "resolved":
            self._tell(f"{_clock(alert.updated_at)} RESOLVED  {cause.cause}")

    def _decision(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if decision.revision == 1:
            self._tell(
                f"{_clock(decision.issued_at)} DECISION  {decision.action} ({decision.mode}), {decision.target.key}"
            )
        elif decision.status != "active":
            self._tell(f"{_clock(decision.expires_at)} {decision.status.upper():9} {decision.action}")


def _clock(time: str) -> str:
    return time[11:23]
