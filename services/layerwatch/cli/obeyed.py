"""How `layerwatch evaluate --obey-control` prints what sampling did: each fault beside the run that others are held against."""

from __future__ import annotations

from collections.abc import Sequence

import click

from layerwatch.cli.show import console, table
from layerwatch.evaluation.obeyed import Obeyed, Raised
from layerwatch.evaluation.run import Evaluation
from layerwatch.evaluation.verdict import FaultVerdict

_COLUMNS = ("recording", "fault", "tier before", "raised after", "layers known", "found after", "first cause")


def show_obeyed(evaluations: Sequence[Evaluation]) -> None:
    """`layers known`: executions whose layers were, from the moment at which more was sampled until the alert."""
    first = evaluations[0].condition
    beside = {_key(e, v): v for e in evaluations if e.condition == first for v in e.judgement.faults}
    for condition in dict.fromkeys(e.condition for e in evaluations if e.obeyed):
        rows: list[tuple[str, ...]] = []
        healthy: list[Obeyed] = []
        for evaluation in evaluations:
            if evaluation.condition != condition or evaluation.obeyed is None:
                continue
            healthy.append(evaluation.obeyed)
            for verdict, raised in zip(evaluation.judgement.faults, evaluation.obeyed.raised, strict=True):
                row = _row(evaluation.recording.name, verdict, raised)
                rows.append((*row, _found(beside.get(_key(evaluation, verdict)))))
        console().print(table((*_COLUMNS, f"with {first}"), rows))
        click.echo(f"{condition}: {_healthy(healthy)}\n")


def _key(evaluation: Evaluation, verdict: FaultVerdict) -> tuple[str, str, float]:
    return evaluation.recording.name, verdict.phase.name, verdict.phase.start_s


def _row(recording: str, verdict: FaultVerdict, raised: Raised) -> tuple[str, ...]:
    return (
        recording.partition("/")[0],
        verdict.phase.name,
        raised.before,
        "never" if raised.after_s is None else f"{raised.after_s:.1f} s" if raised.after_s else "",
        str(raised.samples),
        _found(verdict),
        verdict.first.cause if verdict.first is not None else "",
    )


def _found(verdict: FaultVerdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.delay_s is None:
        return "not found"
    return f"{verdict.delay_s:.1f} s, {verdict.delay_executions}"


def _healthy(of: Sequence[Obeyed]) -> str:
    healthy_s, canary_s = sum(o.healthy_s for o in of), sum(o.canary_s for o in of)
    times, evidence_s = sum(o.suspicions for o in of), sum(o.evidence_s for o in of)
    sampled = sum(o.sampled for o in of) / max(sum(o.executions for o in of), 1)
    return (
        f"in {healthy_s:.0f} s in which nothing is wrong or just over, something was suspected {times} times and evidence "
        f"in force for {evidence_s:.0f} s, and canaries for {canary_s:.0f} s; {sampled:.1%} of the executions were sampled"
    )
