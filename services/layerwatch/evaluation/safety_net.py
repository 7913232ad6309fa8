"""What still catches a fault when the channel that caught it first is silent, and what of that is the forest's doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from layerwatch.detectors.models import Models
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.executions import tables_of
from layerwatch.evaluation.run import alerts_of
from layerwatch.evaluation.verdict import FaultVerdict, Judgement, judge
from layerwatch.recording.recording import Recording

FOREST = "isolation_forest"


@dataclass(frozen=True, slots=True)
class Net:
    """A fault without the channel that caught it first.

    `without_first`: verdict with that channel silent, and `false_alarms` of that run; `without_forest`: with the
    Isolation Forest silent as well.
    """

    recording: str
    first: str
    whole: FaultVerdict
    without_first: FaultVerdict
    without_forest: FaultVerdict
    false_alarms: int

    @property
    def caught_by(self) -> str:
        """The channel that spoke first instead; "" for none."""
        return channel_of(self.without_first) or ""

    @property
    def forest_needed(self) -> bool:
        """Whether only the forest still catches it."""
        return self.without_first.caught and not self.without_forest.caught


def channel_of(verdict: FaultVerdict) -> str | None:
    """The first of the channels that the alert named when it was first told."""
    if verdict.first is None or not verdict.first.told.detectors:
        return None
    return verdict.first.told.detectors[0].name


def safety_net(
    recording: Recording, condition: Condition, models: Models, progress: Callable[[int], None]
) -> list[Net]:
    """One entry for each fault that is caught with all channels; `progress` is told the runs that are done."""
    recording = condition.apply(recording)
    tables = tables_of(recording)
    runs: dict[frozenset[str], Judgement] = {}

    def without(*channels: str) -> Judgement:
        silenced = frozenset(channels)
        if silenced not in runs:
            revisions, _ = alerts_of(recording, replace(models, silenced=models.silenced | silenced))
            runs[silenced] = judge(recording.phases, revisions, tables)
            progress(len(runs))
        return runs[silenced]

    nets = []
    for number, whole in enumerate(without().faults):
        first = channel_of(whole)
        if first is None:
            continue
        rest = without(first)
        nets.append(
            Net(
                recording.name,
                first,
                whole,
                rest.faults[number],
                without(first, FOREST).faults[number],
                len(rest.false_alarms),
            )
        )
    return nets


def net_record(nets: list[Net], condition: Condition) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "schema": "layerwatch.safety_net/1",
        "sample": condition.sample,
        "counters": condition.counters,
        "faults": [
            {
                "recording": net.recording,
                "phase": net.whole.phase.name,
                "first_channel": net.first,
                "caught": net.without_first.caught,
                "in_time": net.without_first.in_time,
                "delay_s": None if net.without_first.delay_s is None else round(net.without_first.delay_s, 3),
                "delay_executions": net.without_first.delay_executions,
                "caught_by": net.caught_by,
                "caught_without_forest": net.without_forest.caught,
                "false_alarms": net.false_alarms,
            }
            for net in nets
        ],
    }
