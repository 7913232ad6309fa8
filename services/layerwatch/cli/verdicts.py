"""How `layerwatch evaluate` prints verdicts: faults, healthy phases, alerts, and the sums beside the naive detectors."""

from __future__ import annotations

from collections.abc import Sequence

import click

from layerwatch.cli.obeyed import show_obeyed
from layerwatch.cli.show import console, table
from layerwatch.evaluation.run import Evaluation
from layerwatch.evaluation.totals import Totals, totals_of
from layerwatch.evaluation.verdict import FaultVerdict, Found

_WIDEST = 60


def show(evaluations: Sequence[Evaluation]) -> None:
    """Each recording under each condition, then the sums by condition."""
    for evaluation in evaluations:
        recording, judgement = evaluation.recording, evaluation.judgement
        click.echo(f"{recording.name}, {evaluation.condition}: {recording.executions} executions")
        if evaluation.refused:
            click.echo(f"{evaluation.refused} messages could not be read")
        start_s = recording.start_s
        if judgement.faults:
            console().print(table(_FAULT_COLUMNS, [_fault_row(v, start_s) for v in judgement.faults]))
        if not judgement.labelled:
            click.echo("no phases are labelled: nothing to judge; this was found")
            console().print(table(_ALERT_COLUMNS, [_alert_row(found, start_s) for found in judgement.found]))
        elif judgement.false_alarms:
            click.echo("false alarms")
            rows = [_alert_row(found, start_s) for found in judgement.false_alarms]
            console().print(table(_ALERT_COLUMNS, rows))
        else:
            click.echo(f"no false alarm in {judgement.healthy_s:.0f} healthy seconds\n")
    labelled = [e for e in evaluations if e.judgement.labelled]
    if any(e.obeyed for e in labelled):
        show_obeyed(labelled)
    if labelled:
        console().print(table(_TOTAL_COLUMNS, _total_rows(labelled)))


_FAULT_COLUMNS = (
    "fault",
    "from",
    "caught",
    "in time",
    "after",
    "executions",
    "first cause",
    "first layer",
    "alerts",
    "closed after",
)
_ALERT_COLUMNS = ("at", "lasted", "severity", "kind", "cause", "layer")
_TOTAL_COLUMNS = ("detector", "faults", "caught", "in time", "cause right", "alerts a fault", "false alarms")


def _fault_row(verdict: FaultVerdict, start_s: float) -> tuple[str, ...]:
    first = verdict.first
    start = f"{verdict.phase.start_s - start_s:.1f} s"
    closed = "" if verdict.closed_after_s is None else f"{verdict.closed_after_s:.1f} s"
    if first is None or verdict.delay_s is None:
        return (verdict.phase.name, start, "no", "", "", "", "", "", str(verdict.alerts), closed)
    switches = f", {verdict.delay_switches} switches" if verdict.delay_switches else ""
    return (
        verdict.phase.name,
        start,
        "yes",
        "yes" if verdict.in_time else "no",
        f"{verdict.delay_s:.1f} s",
        f"{verdict.delay_executions}{switches}",
        first.cause + _remark(verdict.cause_right),
        first.where[:_WIDEST] + ("" if verdict.layers_right is not False else " (wrong)"),
        str(verdict.alerts),
        closed,
    )


def _remark(right: bool | None) -> str:
    return {True: "", False: " (wrong)", None: " (not judged)"}[right]


def _alert_row(found: Found, start_s: float) -> tuple[str, ...]:
    lasted = "" if found.lasted_s is None else f"{found.lasted_s:.1f} s"
    at = f"{found.at_s - start_s:.1f} s"
    return at, lasted, found.worst, found.told.kind, found.cause, found.where[:_WIDEST]


def _total_rows(evaluations: Sequence[Evaluation]) -> list[tuple[str, ...]]:
    rows = []
    for condition in dict.fromkeys(e.condition for e in evaluations):
        totals = totals_of([e for e in evaluations if e.condition == condition])
        rows.append((f"layerwatch, {condition}", *_numbers(totals)))
        for name, (caught, false_alarms) in totals.naive.items():
            rows.append((f"  {name}", str(totals.faults), str(caught), "", "", "", str(false_alarms)))
    return rows


def _numbers(totals: Totals) -> tuple[str, ...]:
    each = totals.alerts / totals.caught if totals.caught else 0.0
    return (
        str(totals.faults),
        str(totals.caught),
        str(totals.in_time),
        f"{totals.causes_right} of {totals.causes_judged}",
        f"{each:.1f}, {totals.most_alerts} at most",
        f"{totals.false_alarms} in {totals.healthy_s:.0f} s",
    )
