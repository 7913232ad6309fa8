"""The picture of a recording: phases shaded, times and counters as lines, detectors and alerts as bars."""

from __future__ import annotations

from html import escape

import numpy as np

from layerwatch.evaluation.report import series
from layerwatch.evaluation.report.canvas import LEFT, RIGHT, WIDTH, TimeAxis, ValueAxis, element, lanes, path
from layerwatch.evaluation.report.series import Series
from layerwatch.evaluation.run import Evaluation
from layerwatch.evaluation.verdict import Found
from layerwatch.recording.recording import Phase
from layerwatch.schemas.times import unix_s

_HEADING, _LINES, _ROW, _ALERT = 92, 96, 15, 28  # heights in pixels
_CHARACTER = 6.3
_GAP = 16


def picture_of(evaluation: Evaluation) -> str:
    """An <svg> that needs the page's style sheet."""
    recording = evaluation.recording
    times = TimeAxis(max(recording.end_s - recording.start_s, 1e-3))
    drawn: list[str] = []
    y = float(_HEADING if recording.phases else 12)
    top = y
    shown = [
        series.end_to_end(recording, evaluation.tables),
        series.sum_of_layers(recording, evaluation.tables),
        series.counters(recording),
    ]
    for one in shown:
        if one is not None and any(np.isfinite(line).any() for line in one.lines.values()):
            drawn += _lines(one, times, y)
            y += _LINES + _GAP
    y = _detectors(evaluation, times, y, drawn)
    y = _alerts(evaluation, times, y, drawn)
    bottom = y
    behind = [_phase(phase, recording.start_s, times, top, bottom) for phase in recording.phases]
    label = f"{recording.name}: times, detectors and alerts over {times.length_s:.0f} seconds"
    body = "".join([*behind, *_time_axis(times, top, bottom), *drawn])
    return (
        f'<svg viewBox="0 0 {WIDTH} {bottom + 26:.0f}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def _phase(phase: Phase, start_s: float, times: TimeAxis, top: float, bottom: float) -> str:
    left, right = times.x(phase.start_s - start_s), times.x(phase.end_s - start_s)
    kind = "healthy" if phase.healthy else "fault"
    told = f"{phase.name}, {phase.end_s - phase.start_s:.1f} s, {'healthy' if phase.healthy else 'injected fault'}"
    box = element(
        "rect", title=told, x=left, y=top, width=right - left, height=bottom - top, class_=f"phase {kind}"
    )
    if phase.name == "normal":
        return box
    x, y = left + 4, top - 6
    return box + element(
        "text", phase.name, x=x, y=y, transform=f"rotate(-32 {x:.1f} {y:.1f})", class_=f"phase-name {kind}"
    )


def _time_axis(times: TimeAxis, top: float, bottom: float) -> list[str]:
    out = []
    for tick in times.ticks():
        x = times.x(tick)
        out.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        out.append(element("text", f"{tick:g} s", x=x, y=bottom + 17, text_anchor="middle", class_="tick"))
    return out


def _lines(one: Series, times: TimeAxis, top: float) -> list[str]:
    values = np.concatenate(list(one.lines.values()))
    values = values[np.isfinite(values)]
    if one.unit == "%":
        axis = ValueAxis(0.0, 100.0, top, top + _LINES, log=False)
    else:
        low, high = min(0.8, float(values.min())), max(2.0, float(values.max()) * 1.05)
        axis = ValueAxis(low, high, top, top + _LINES, log=True)
    out = [element("text", one.name, x=LEFT - 44, y=top + 10, text_anchor="end", class_="panel")]
    for tick in axis.ticks():
        y = axis.y(tick)
        usual = " usual" if one.unit == "x" and tick == 1 else ""
        out.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=f"grid{usual}"))
        out.append(
            element("text", f"{tick:g}{one.unit}", x=LEFT - 6, y=y + 4, text_anchor="end", class_="tick")
        )
    for number, (label, line) in enumerate(reversed(one.lines.items())):
        style = "second" if number == 0 else "first"
        out.append(path(times, axis, one.times_s, line, style))
        out.append(
            element(
                "text", label, x=LEFT - 44, y=top + 40 - 14 * number, text_anchor="end", class_=f"key {style}"
            )
        )
    return out


def _detectors(evaluation: Evaluation, times: TimeAxis, top: float, drawn: list[str]) -> float:
    """A row for each detector that spoke; stronger colour for a higher score over its threshold. Returns the new y."""
    start_s = evaluation.recording.start_s
    spoke: dict[str, list[tuple[float, float, float]]] = {}
    for found in evaluation.judgement.found:
        end_s = _end_s(evaluation, found)
        for detector in found.last.detectors:
            since_s = evaluation.spoke_s.get((found.id, detector.name), found.at_s)
            ratio = detector.score / detector.threshold if detector.threshold else 1.0
            spoke.setdefault(detector.name, []).append((since_s - start_s, end_s - start_s, ratio))
    for row, (name, spans) in enumerate(sorted(spoke.items())):
        y = top + row * _ROW
        drawn.append(element("text", name, x=LEFT - 6, y=y + 9, text_anchor="end", class_="tick"))
        for left_s, right_s, ratio in spans:
            x = times.x(left_s)
            drawn.append(
                element(
                    "rect",
                    title=f"{name}: {ratio:.1f} times its threshold",
                    x=x,
                    y=y + 2,
                    width=max(times.x(right_s) - x, 2.0),
                    height=_ROW - 6,
                    class_="detector",
                    opacity=min(1.0, 0.35 + 0.25 * max(ratio - 1.0, 0.0)),
                )
            )
    return top + len(spoke) * _ROW + (_GAP if spoke else 0)


def _alerts(evaluation: Evaluation, times: TimeAxis, top: float, drawn: list[str]) -> float:
    """A bar for each alert, from opening to end, with its onset as a whisker. Returns the new y."""
    start_s = evaluation.recording.start_s
    found = evaluation.judgement.found
    spans = []
    for one in found:
        left, right = (
            times.x(unix_s(one.told.started_at) - start_s),
            times.x(_end_s(evaluation, one) - start_s),
        )
        spans.append((left, max(right, times.x(one.at_s - start_s) + _CHARACTER * len(one.cause)) + 8))
    chosen = lanes(spans)
    drawn.append(element("text", "alerts", x=LEFT - 6, y=top + 9, text_anchor="end", class_="panel"))
    if not found:
        drawn.append(element("text", "none", x=LEFT + 4, y=top + 10, class_="tick"))
    for one, lane in zip(found, chosen, strict=True):
        y = top + lane * _ALERT
        onset, opened = times.x(unix_s(one.told.started_at) - start_s), times.x(one.at_s - start_s)
        end = times.x(_end_s(evaluation, one) - start_s)
        drawn.append(element("line", x1=onset, x2=opened, y1=y + 5, y2=y + 5, class_=f"onset {one.worst}"))
        bar = element(
            "rect",
            title=f"{one.worst}: {one.last.summary}",
            x=opened,
            y=y,
            width=max(end - opened, 3.0),
            height=10,
            rx=2,
            class_=f"alert {one.worst}",
        )
        drawn.append(f'<a href="#{element_id(evaluation, one)}">{bar}</a>')
        drawn.append(element("text", one.cause, x=opened, y=y + 21, class_="cause"))
    return top + (max(chosen, default=0) + 1) * _ALERT


def element_id(evaluation: Evaluation, found: Found) -> str:
    """Where an alert stands on the page; a recording may stand there under several conditions."""
    condition = evaluation.condition
    return f"{found.id}-{condition.sample:g}-{'c' if condition.counters else 'n'}"


def _end_s(evaluation: Evaluation, found: Found) -> float:
    return evaluation.recording.end_s if found.last.closed_at is None else unix_s(found.last.closed_at)
