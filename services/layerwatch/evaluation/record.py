"""Evaluations as plain data for JSON. Fields are only ever added; times are seconds since the recording's start."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from layerwatch.evaluation.run import Evaluation
from layerwatch.evaluation.totals import Totals, totals_of
from layerwatch.evaluation.verdict import FaultVerdict, Found
from layerwatch.schemas.times import unix_s

SCHEMA = "layerwatch.evaluation/1"


def record_of(evaluations: list[Evaluation]) -> dict[str, Any]:
    """What `layerwatch evaluate --json` writes."""
    conditions = list(dict.fromkeys(evaluation.condition for evaluation in evaluations))
    return {
        "schema": SCHEMA,
        "conditions": [
            {
                "sample": condition.sample,
                "counters": condition.counters,
                "obeys_control": condition.obeys,
                "recordings": [_recording(e) for e in evaluations if e.condition == condition],
                "totals": _totals(totals_of([e for e in evaluations if e.condition == condition])),
            }
            for condition in conditions
        ],
    }


def _recording(evaluation: Evaluation) -> dict[str, Any]:
    recording, judgement = evaluation.recording, evaluation.judgement
    start_s = recording.start_s
    return {
        "name": recording.name,
        "executions": recording.executions,
        "seconds": round(recording.end_s - start_s, 3),
        "refused_messages": evaluation.refused,
        "labelled": judgement.labelled,
        "healthy_s": round(judgement.healthy_s, 3),
        "faults": [_fault(verdict, start_s) for verdict in judgement.faults],
        "healthy": [
            {
                "phase": verdict.phase.name,
                "start_s": round(verdict.phase.start_s - start_s, 3),
                "end_s": round(verdict.phase.end_s - start_s, 3),
                "false_alarms": [found.id for found in verdict.false_alarms],
            }
            for verdict in judgement.healthy
        ],
        "false_alarms": [found.id for found in judgement.false_alarms],
        "obeyed": None if evaluation.obeyed is None else asdict(evaluation.obeyed),
        "alerts": [_alert(found, start_s) for found in judgement.found],
        "naive": [
            {
                "name": naive.name,
                "faults": naive.faults,
                "caught": naive.caught,
                "false_alarms": naive.false_alarms,
            }
            for naive in evaluation.naive
        ],
    }


def _fault(verdict: FaultVerdict, start_s: float) -> dict[str, Any]:
    first = verdict.first
    return {
        "phase": verdict.phase.name,
        "start_s": round(verdict.phase.start_s - start_s, 3),
        "end_s": round(verdict.phase.end_s - start_s, 3),
        "caught": verdict.caught,
        "in_time": verdict.in_time,
        "delay_s": None if verdict.delay_s is None else round(verdict.delay_s, 3),
        "delay_executions": verdict.delay_executions,
        "delay_switches": verdict.delay_switches,
        "closed_after_s": None if verdict.closed_after_s is None else round(verdict.closed_after_s, 3),
        "first_alert": None if first is None else first.id,
        "cause": None if first is None else first.cause,
        "expected_causes": sorted(verdict.expected.causes),
        "cause_right": verdict.cause_right,
        "where": None if first is None else first.where,
        "expected_block": verdict.expected.block,
        "layers_right": verdict.layers_right,
        "alerts": [found.id for found in [*verdict.warnings, *verdict.afterwards]],
    }


def _alert(found: Found, start_s: float) -> dict[str, Any]:
    told, last = found.told, found.last
    return {
        "id": found.id,
        "at_s": round(found.at_s - start_s, 3),
        "closed_s": None if last.closed_at is None else round(unix_s(last.closed_at) - start_s, 3),
        "kind": told.kind,
        "severity": told.severity,
        "worst_severity": found.worst,
        "summary": last.summary,
        "causes": [msgspec.to_builtins(cause) for cause in told.causes],
        "last_causes": [msgspec.to_builtins(cause) for cause in last.causes],
        "layers": [msgspec.to_builtins(layer) for layer in last.layers],
        "detectors": [msgspec.to_builtins(detector) for detector in last.detectors],
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {name: getattr(totals, name) for name in Totals.__slots__ if name != "naive"} | {
        "naive": {name: {"caught": c, "false_alarms": f} for name, (c, f) in totals.naive.items()}
    }
