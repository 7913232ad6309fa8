"""Verdicts added up over recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from layerwatch.evaluation.run import Evaluation


@dataclass(slots=True)
class Totals:
    """`causes_judged`, `layers_judged`: faults that were caught and have a right answer. `naive`: caught, false alarms."""

    faults: int = 0
    caught: int = 0
    in_time: int = 0
    causes_judged: int = 0
    causes_right: int = 0
    layers_judged: int = 0
    layers_right: int = 0
    alerts: int = 0
    most_alerts: int = 0  # of one fault
    false_alarms: int = 0
    healthy_s: float = 0.0
    naive: dict[str, tuple[int, int]] = field(default_factory=dict)


def totals_of(evaluations: Sequence[Evaluation]) -> Totals:
    """Sums over the recordings that have phases."""
    totals = Totals()
    for evaluation in evaluations:
        judgement = evaluation.judgement
        if not judgement.labelled:
            continue
        faults = judgement.faults
        totals.faults += len(faults)
        totals.caught += sum(v.caught for v in faults)
        totals.in_time += sum(v.in_time for v in faults)
        totals.causes_judged += sum(v.cause_right is not None for v in faults)
        totals.causes_right += sum(v.cause_right is True for v in faults)
        totals.layers_judged += sum(v.layers_right is not None for v in faults)
        totals.layers_right += sum(v.layers_right is True for v in faults)
        totals.alerts += sum(v.alerts for v in faults)
        totals.most_alerts = max([totals.most_alerts, *(v.alerts for v in faults)])
        totals.false_alarms += len(judgement.false_alarms)
        totals.healthy_s = round(totals.healthy_s + judgement.healthy_s, 3)
        for naive in evaluation.naive:
            caught, false_alarms = totals.naive.get(naive.name, (0, 0))
            totals.naive[naive.name] = caught + naive.caught, false_alarms + naive.false_alarms
    return totals
