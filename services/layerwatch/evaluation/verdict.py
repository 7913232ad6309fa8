"""What was injected beside what was found: the one judgement that tests, the demo and `layerwatch evaluate` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from layerwatch.evaluation.executions import InstanceTable, waited
from layerwatch.evaluation.expectations import Expectation, expected_of
from layerwatch.recording.recording import Phase
from layerwatch.schemas.alerts import SEVERITIES, Alert
from layerwatch.schemas.times import unix_s

#: An alert that becomes a warning so long after a fault's end still belongs to it (s).
GRACE_S = 2.0

#: In time: within so many seconds or executions of the phase's start; a switch of profile within so many switches.
IN_TIME_S, IN_TIME_EXECUTIONS, IN_TIME_SWITCHES = 3.0, 150, 10


@dataclass(frozen=True, slots=True)
class Found:
    """An alert: `told` as it read when it first was of its judged severity, `last` as it read in the end.

    `at_s`: event time of the evidence that made it so severe (unix s). `worst`: its highest severity.
    """

    at_s: float
    told: Alert
    last: Alert
    worst: str

    @property
    def id(self) -> str:
        return self.told.id

    @property
    def lasted_s(self) -> float | None:
        """From that moment to the end; None where it still fires."""
        return None if self.last.closed_at is None else unix_s(self.last.closed_at) - self.at_s

    @property
    def cause(self) -> str:
        """The first cause, as first told."""
        return self.told.causes[0].cause if self.told.causes else "unknown"

    @property
    def where(self) -> str:
        """The first layer's group or name, as first told."""
        layers = self.told.layers
        return (layers[0].group or layers[0].name) if layers else "between the layers"


@dataclass(slots=True)
class FaultVerdict:
    """A faulty phase. `first` is the alert that caught it, `warnings` are all that people heard of in it.

    `afterwards`: alerts that opened within the grace after its end; they neither catch it nor are false.
    """

    phase: Phase
    expected: Expectation
    first: Found | None = None
    warnings: list[Found] = field(default_factory=list)
    afterwards: list[Found] = field(default_factory=list)
    delay_executions: int | None = None
    delay_switches: int | None = None

    @property
    def caught(self) -> bool:
        return self.first is not None

    @property
    def delay_s(self) -> float | None:
        """From the phase's start to the event time at which the first alert became severe enough."""
        return None if self.first is None else self.first.at_s - self.phase.start_s

    @property
    def in_time(self) -> bool:
        if self.delay_s is None:
            return False
        if "profile_switch" in self.expected.causes and self.delay_switches is not None:
            return self.delay_switches <= IN_TIME_SWITCHES
        few = self.delay_executions is not None and self.delay_executions <= IN_TIME_EXECUTIONS
        return few or self.delay_s <= IN_TIME_S

    @property
    def cause_right(self) -> bool | None:
        """Whether the first alert's first cause is what was injected; None where it is not caught or not defined."""
        if self.first is None or not self.expected.causes:
            return None
        return self.first.cause in self.expected.causes

    @property
    def layers_right(self) -> bool | None:
        """Whether the first alert's first layer is of the block that was made slow; None as for the cause."""
        if self.first is None or self.expected.block is None:
            return None
        return self.expected.block in self.first.where

    @property
    def closed_after_s(self) -> float | None:
        """From the phase's end to the end of its last alert; None where there is none, or one still fires."""
        told = [self.first, *self.warnings, *self.afterwards]
        closed = [found.last.closed_at for found in told if found is not None]
        if not closed or None in closed:
            return None
        return max(unix_s(at) for at in closed if at is not None) - self.phase.end_s

    @property
    def alerts(self) -> int:
        """Alerts of warning or above that one trouble cost people."""
        return len(self.warnings) + len(self.afterwards)


@dataclass(slots=True)
class HealthyVerdict:
    """A healthy phase with its false alarms."""

    phase: Phase
    false_alarms: list[Found] = field(default_factory=list)


@dataclass(slots=True)
class Judgement:
    """Every phase of a recording with its alerts. `false_alarms` are all of them, in healthy phases or between phases.

    Without phases nothing can be judged: `found` then simply tells what there was.
    """

    faults: list[FaultVerdict]
    healthy: list[HealthyVerdict]
    false_alarms: list[Found]
    found: list[Found]

    @property
    def labelled(self) -> bool:
        return bool(self.faults or self.healthy)

    @property
    def healthy_s(self) -> float:
        return sum(v.phase.end_s - v.phase.start_s for v in self.healthy)


def found_of(
    revisions: Iterable[Alert], severity: str = "warning", *, with_layers: bool = False
) -> list[Found]:
    """The alerts in some revisions that were of a severity or above at least once, by the time they became so.

    `with_layers`: as they read once they named layers, which for a new build is its verdict and not the mere fact.
    """
    least = SEVERITIES.index(severity)
    told: dict[str, tuple[float, Alert]] = {}
    last: dict[str, Alert] = {}
    worst: dict[str, int] = {}
    for alert in revisions:
        rank = SEVERITIES.index(alert.severity)
        if alert.id not in told and rank >= least and (alert.layers or not with_layers):
            time = alert.updated_at if alert.id in last else alert.opened_at
            told[alert.id] = unix_s(time), alert
        last[alert.id] = alert
        worst[alert.id] = max(worst.get(alert.id, 0), rank)
    found = [Found(at_s, alert, last[id], SEVERITIES[worst[id]]) for id, (at_s, alert) in told.items()]
    return sorted(found, key=lambda one: one.at_s)


def judge(
    phases: Sequence[Phase], revisions: Sequence[Alert], tables: list[InstanceTable] | None = None
) -> Judgement:
    """Compare all revisions of a run's alerts with what was injected; without `tables`, delays in seconds only."""
    faults = [FaultVerdict(phase, expected_of(phase.name)) for phase in phases if not phase.healthy]
    healthy = [HealthyVerdict(phase) for phase in phases if phase.healthy]
    false_alarms = []
    for found in found_of(revisions) if phases else []:
        if not _belongs(found, faults):
            false_alarms.append(found)
            for verdict in healthy:
                if verdict.phase.start_s <= found.at_s <= verdict.phase.end_s:
                    verdict.false_alarms.append(found)
                    break
    for fault in faults:
        fault.first = _first(fault, revisions)
        if tables and fault.first is not None:
            fault.delay_executions, fault.delay_switches = waited(
                tables, fault.phase.start_s, fault.first.at_s
            )
    return Judgement(faults, healthy, false_alarms, found_of(revisions, "info"))


def _belongs(found: Found, faults: list[FaultVerdict]) -> bool:
    """Give an alert to the fault that it fell into, or else to the one that ended just before."""
    for fault in faults:
        if fault.phase.start_s <= found.at_s <= fault.phase.end_s:
            fault.warnings.append(found)
            return True
    for fault in faults:
        if fault.phase.end_s < found.at_s <= fault.phase.end_s + GRACE_S:
            fault.afterwards.append(found)
            return True
    return False


def _first(fault: FaultVerdict, revisions: Sequence[Alert]) -> Found | None:
    """The first alert of the kind and severity that the fault asks for, within its phase."""
    expected = fault.expected
    for found in found_of(revisions, expected.severity, with_layers=expected.kind == "engine_regression"):
        inside = fault.phase.start_s <= found.at_s <= fault.phase.end_s
        if inside and expected.kind in (None, found.told.kind):
            return found
    return None
