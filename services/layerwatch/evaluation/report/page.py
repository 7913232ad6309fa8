"""The page: sums, then each recording with its picture, its verdicts and its alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata, resources

import numpy as np

from layerwatch.evaluation.report.picture import element_id, picture_of
from layerwatch.evaluation.run import Evaluation
from layerwatch.evaluation.totals import totals_of
from layerwatch.evaluation.verdict import FaultVerdict, Found
from layerwatch.schemas.times import rfc3339

_LEGEND = (
    "Times are over the median of their shape, so that 1x is usual; p50 and p99 of each moment. A bar is as strong as its "
    "detector's score is over its threshold, and an alert's whisker begins at its estimated onset."
)


def page_of(evaluations: Sequence[Evaluation]) -> str:
    """One HTML document that loads nothing; readable in light and dark."""
    style = (resources.files("layerwatch.evaluation.report") / "style.css").read_text("utf-8")
    names = ", ".join(dict.fromkeys(evaluation.recording.name for evaluation in evaluations))
    body = [f"<h1>layerwatch on {escape(names)}</h1>"]
    if any(evaluation.judgement.labelled for evaluation in evaluations):
        body.append(_totals([e for e in evaluations if e.judgement.labelled]))
    body += [_recording(evaluation) for evaluation in evaluations]
    body.append(
        f"<footer>layerwatch {escape(metadata.version('layerwatch'))}, layerwatch evaluate --report</footer>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>layerwatch: {escape(names)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _recording(evaluation: Evaluation) -> str:
    recording, judgement = evaluation.recording, evaluation.judgement
    parts = [
        f"<section><h2>{escape(recording.name)} <small>{escape(str(evaluation.condition))}</small></h2>",
        f"<p>{_facts(evaluation)}</p>",
        f'<div class="picture">{picture_of(evaluation)}</div>',
        f"<p class='note'>{_LEGEND}{' Shaded: faults that the recording labels.' if judgement.faults else ''}</p>",
    ]
    if judgement.labelled:
        parts.append(_verdicts(evaluation))
    parts.append("<h3>Alerts</h3>")
    parts += [_alert(evaluation, found) for found in judgement.found] or ["<p>Nothing was found.</p>"]
    return "".join(parts) + "</section>"


def _facts(evaluation: Evaluation) -> str:
    recording = evaluation.recording
    end_to_end_ms = np.concatenate([t.end_to_end_ms for t in evaluation.tables] or [np.zeros(1)])
    sampled = sum(len(layers.rows) for table in evaluation.tables for layers in table.layers)
    layers = " + ".join(str(len(p.layers)) for m in recording.manifests for p in m.profiles)
    gpus = ", ".join(dict.fromkeys(m.gpu_model for m in recording.manifests if m.gpu_model))
    facts = [
        rfc3339(recording.start_s),
        f"{recording.end_s - recording.start_s:.0f} s",
        f"{recording.executions} executions ({sampled} with layers)",
        f"{layers} layers",
        f"end to end {np.quantile(end_to_end_ms, 0.5):.2f} ms at the median, {np.quantile(end_to_end_ms, 0.99):.2f} ms at p99",
    ]
    if gpus:
        facts.insert(1, gpus)
    if evaluation.refused:
        facts.append(f"{evaluation.refused} messages could not be read")
    return escape(" · ".join(facts))


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]], class_: str = "") -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{class_}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _totals(evaluations: list[Evaluation]) -> str:
    rows = []
    for condition in dict.fromkeys(e.condition for e in evaluations):
        totals = totals_of([e for e in evaluations if e.condition == condition])
        rows.append(
            (
                f"layerwatch, {escape(str(condition))}",
                f"{totals.caught} of {totals.faults}",
                str(totals.in_time),
                f"{totals.causes_right} of {totals.causes_judged}",
                f"{totals.false_alarms} in {totals.healthy_s:.0f} s",
            )
        )
        rows += [
            (f"&ensp;{escape(name)}", f"{caught} of {totals.faults}", "", "", str(false_alarms))
            for name, (caught, false_alarms) in totals.naive.items()
        ]
    return _table(("detector", "faults caught", "in time", "cause right", "false alarms"), rows)


def _verdicts(evaluation: Evaluation) -> str:
    start_s = evaluation.recording.start_s
    rows = [_verdict(evaluation, verdict, start_s) for verdict in evaluation.judgement.faults]
    columns = ("injected fault", "from", "caught", "after", "first cause", "first layer", "alerts")
    table = _table(columns, rows) if rows else ""
    wrong = evaluation.judgement.false_alarms
    told = f"{len(wrong)} false alarm{'' if len(wrong) == 1 else 's'}" if wrong else "No false alarm"
    return f"<h3>Verdicts</h3>{table}<p>{told} in {evaluation.judgement.healthy_s:.0f} healthy seconds.</p>"


def _verdict(evaluation: Evaluation, verdict: FaultVerdict, start_s: float) -> tuple[str, ...]:
    first = verdict.first
    head = (escape(verdict.phase.name), f"{verdict.phase.start_s - start_s:.1f} s")
    if first is None or verdict.delay_s is None:
        return (*head, _mark(False, "no"), "", "", "", str(verdict.alerts))
    caught = _mark(verdict.in_time, "in time" if verdict.in_time else "late")
    after = f"{verdict.delay_s:.1f} s, {verdict.delay_executions} executions"
    if verdict.delay_switches:
        after += f", {verdict.delay_switches} switches"
    cause = (
        f'<a href="#{element_id(evaluation, first)}">{_mark(verdict.cause_right, escape(first.cause))}</a>'
    )
    return (*head, caught, after, cause, _mark(verdict.layers_right, _name(first.where)), str(verdict.alerts))


def _mark(right: bool | None, text: str) -> str:
    kind = {True: "right", False: "wrong", None: "open"}[right]
    return f'<span class="{kind}">{text}</span>'


def _name(name: str) -> str:
    """A layer's name; fused ones run to hundreds of characters."""
    return f'<span class="name" title="{escape(name)}">{escape(name)}</span>'


def _alert(evaluation: Evaluation, found: Found) -> str:
    last = found.last
    at = f"{found.at_s - evaluation.recording.start_s:.1f} s"
    lasted = "still firing" if found.lasted_s is None else f"{found.lasted_s:.1f} s"
    causes = "".join(
        f"<li><b>{escape(cause.cause)}</b> ({cause.confidence:.0%}): {escape(cause.evidence)}</li>"
        for cause in last.causes
    )
    felt = last.impact
    return (
        f'<article id="{element_id(evaluation, found)}" class="{found.worst}">'
        f"<h4><span class='badge {found.worst}'>{found.worst}</span> at {at}, {lasted}: {escape(last.summary)}</h4>"
        f"<ul>{causes}</ul>"
        f"<p>{felt.affected} of {felt.executions} executions slowed, median {felt.p50_ratio:.2f}x, p99 "
        f"{felt.p99_ratio:.2f}x ({felt.baseline_p99_ms:.2f} to {felt.observed_p99_ms:.2f} ms). {_shapes(found)}</p>"
        f"{_layers(found)}</article>"
    )


def _shapes(found: Found) -> str:
    worst = (
        f"{', '.join(f'{name} {dims}' for name, dims in bucket.shapes.items())} ({bucket.ratio:.2f}x)"
        for bucket in found.last.buckets
    )
    told = "; ".join(worst)
    return f"Shapes that lost most: {escape(told)}." if told else ""


def _layers(found: Found) -> str:
    layers = found.last.layers
    if not layers:
        return "<p>No layer stands out: the time is lost between the layers.</p>"
    most = max(layer.excess_ms for layer in layers) or 1.0
    rows = [
        (
            _name(layer.name),
            escape(layer.group),
            f"{layer.baseline_ms:.4f}",
            f"{layer.observed_ms:.4f}",
            f"{layer.ratio:.2f}x",
            f'<span class="bar"><i style="width:{100 * layer.excess_ms / most:.0f}%"></i></span>{layer.excess_ms:.4f}',
        )
        for layer in layers
    ]
    return _table(("layer", "group", "usual ms", "now ms", "ratio", "excess ms"), rows, "layers")
