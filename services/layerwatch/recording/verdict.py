"""What was injected beside what was found. The only code that looks at a recording's labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from layerwatch.recording.recording import Phase
from layerwatch.schemas.alerts import SEVERITIES, Alert
from layerwatch.schemas.times import unix_s

#: An alert that opens so long after a fault's end still belongs to it (s).
_GRACE_S = 2.0

#: What each kind of injected fault should be called.
CAUSES = {
    "cotenant_compute": {"gpu_contention"},
    "cotenant_membw": {"gpu_contention", "memory_bandwidth"},
    "cotenant_burst": {"gpu_contention"},
    "cotenant_h2d": {"pcie_contention"},
    "stream_membw": {"memory_bandwidth"},
    "cpu_starve": {"host_starvation"},
    "switching_context": {"profile_switch"},
    "input_x2": {"quantization_range", "input_drift"},
    "input_x4": {"quantization_range", "input_drift"},
    "input_x8": {"quantization_range", "input_drift"},
    "one_channel_x6": {"quantization_range", "input_drift"},
}


@dataclass(frozen=True, slots=True)
class Found:
    """An alert when it first was a warning; `causes` as they were then, the likeliest first."""

    id: str
    opened_s: float
    severity: str
    causes: list[str]
    where: str


@dataclass(slots=True)
class Verdict:
    """A faulty phase with the alerts that opened in it."""

    phase: Phase
    alerts: list[Found] = field(default_factory=list)

    @property
    def caught(self) -> bool:
        return bool(self.alerts)

    @property
    def delay_s(self) -> float | None:
        """From the phase's start to the first alert."""
        return self.alerts[0].opened_s - self.phase.start_s if self.alerts else None

    @property
    def cause_right(self) -> bool | None:
        """Whether the first alert's first cause is what was injected; None where that is not defined."""
        expected = CAUSES.get(self.phase.name)
        if expected is None or not self.alerts:
            return None
        return self.alerts[0].causes[0] in expected


def found_of(revisions: Iterable[Alert]) -> list[Found]:
    """The alerts of severity warning and above in some revisions, by the time they opened."""
    first: dict[str, Found] = {}
    for alert in revisions:
        if alert.id in first or SEVERITIES.index(alert.severity) < SEVERITIES.index("warning"):
            continue
        where = (alert.layers[0].group or alert.layers[0].name) if alert.layers else "between the layers"
        causes = [cause.cause for cause in alert.causes]
        first[alert.id] = Found(alert.id, unix_s(alert.opened_at), alert.severity, causes, where)
    return sorted(first.values(), key=lambda found: found.opened_s)


def judge(phases: Iterable[Phase], alerts: Iterable[Found]) -> tuple[list[Verdict], list[Found]]:
    """Each faulty phase with its alerts, and the alerts that belong to none: false alarms."""
    verdicts = [Verdict(phase) for phase in phases if not phase.healthy]
    false_alarms = []
    for alert in alerts:
        for verdict in verdicts:
            if verdict.phase.start_s <= alert.opened_s <= verdict.phase.end_s + _GRACE_S:
                verdict.alerts.append(alert)
                break
        else:
            false_alarms.append(alert)
    return verdicts, false_alarms
