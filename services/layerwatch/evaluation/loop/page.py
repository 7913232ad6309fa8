"""The closed loop as a page: latency, wrong outputs, replicas and engines over time, with the loop open and closed."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib import metadata, resources

import numpy as np
from numpy.typing import NDArray

from layerwatch.evaluation.loop import world
from layerwatch.evaluation.loop.world import Second, Story
from layerwatch.evaluation.report.canvas import LEFT, RIGHT, WIDTH, TimeAxis, ValueAxis, element, lanes, path
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s

_TOP, _PANEL, _GAP, _BAR = 44, 96, 26, 24
_CHARACTER = 6.3

_PANELS: tuple[tuple[str, str, bool, Callable[[Second], float]], ...] = (
    ("p99, queue included", " ms", True, lambda second: second.p99_ms),
    ("outputs that are wrong", " %", False, lambda second: 100 * second.wrong),
    ("replicas that serve", "", False, lambda second: second.replicas),
    ("of them on FP16", "", False, lambda second: second.on_fp16),
)
_FAULTS = (("another process on one GPU", world.CROWDED_S), ("inputs leave INT8's ranges", world.DRIFTED_S))


def page_of(opened: Story, closed: Story) -> str:
    """One HTML document that loads nothing."""
    style = (resources.files("layerwatch.evaluation.report") / "style.css").read_text("utf-8")
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows_of(opened, closed)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>layerwatch: the closed loop</title><style>{style}</style></head><body><main>"
        f"<h1>The closed loop</h1><p>{escape(_FACTS)}</p>"
        f'<div class="picture">{picture_of(opened, closed)}</div>'
        f"<table><thead><tr><th></th><th>nobody obeys</th><th>loop closed</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<footer>layerwatch {escape(metadata.version('layerwatch'))}, layerwatch evaluate --loop</footer>"
        "</main></body></html>\n"
    )


_FACTS = (
    f"A simulated service: {world.RATE:g} requests a second, {world.REPLICAS} replicas with a queue each; all stages of "
    "layerwatch on the simulated times of their layers, with the shipped policy in enforce. Blue: runtimes and autoscaler obey "
    f"(a new replica serves after {world.STARTUP_S:g} s). Orange: the same requests, and nobody obeys."
)


def rows_of(opened: Story, closed: Story) -> list[tuple[str, str, str]]:
    """What it comes to, for people."""
    told: dict[str, Callable[[Story], str]] = {
        "requests": lambda story: str(story.requests),
        f"later than {world.TARGET_MS:g} ms": lambda story: f"{story.late} ({_share(story)})",
        "wrong outputs": lambda story: f"{story.wrong:.0f}",
        "replica-hours": lambda story: f"{story.replica_s / 3600:.2f}",
    }
    return [(name, say(opened), say(closed)) for name, say in told.items()]


def picture_of(opened: Story, closed: Story) -> str:
    """An <svg> that needs the page's style sheet."""
    times = TimeAxis(float(world.LENGTH_S))
    drawn: list[str] = []
    y = float(_TOP)
    for name, unit, log, value in _PANELS:
        drawn += _panel(times, y, name, unit, log, [_line(story, value) for story in (opened, closed)])
        y += _PANEL + _GAP
    y = _decisions(closed, times, y, drawn)
    behind = []
    for name, (from_s, to_s) in _FAULTS:
        left, right = times.x(from_s), times.x(to_s)
        behind.append(
            element("rect", x=left, y=_TOP, width=right - left, height=y - _TOP, class_="phase fault")
        )
        behind.append(element("text", name, x=left + 4, y=_TOP - 22, class_="phase-name fault"))
    for tick in times.ticks():
        x = times.x(tick)
        behind.append(element("line", x1=x, x2=x, y1=_TOP, y2=y, class_="grid"))
        behind.append(element("text", f"{tick:g} s", x=x, y=y + 17, text_anchor="middle", class_="tick"))
    label = "latency, wrong outputs, replicas and engines over time, with the loop open and closed"
    return f'<svg viewBox="0 0 {WIDTH} {y + 26:.0f}" role="img" aria-label="{label}">{"".join([*behind, *drawn])}</svg>'


def _panel(
    times: TimeAxis, top: float, name: str, unit: str, log: bool, lines: list[NDArray[np.float64]]
) -> list[str]:
    values = np.concatenate(lines)
    values = values[np.isfinite(values)]
    low, high = (
        (float(values.min()) * 0.8, float(values.max()) * 1.2)
        if log
        else (0.0, max(1.0, float(values.max())))
    )
    axis = ValueAxis(low, high, top, top + _PANEL, log=log)
    out = [element("text", name, x=LEFT, y=top - 5, class_="panel")]
    for tick in axis.ticks():
        y = axis.y(tick)
        out.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        out.append(element("text", f"{tick:g}{unit}", x=LEFT - 6, y=y + 4, text_anchor="end", class_="tick"))
    at_s = np.arange(len(lines[0]), dtype=np.float64)
    out += [
        path(times, axis, at_s, line, style) for line, style in zip(lines, ("second", "first"), strict=True)
    ]
    return out


def _line(story: Story, value: Callable[[Second], float]) -> NDArray[np.float64]:
    return np.array([value(second) for second in story.seconds], np.float64)


def _decisions(story: Story, times: TimeAxis, top: float, drawn: list[str]) -> float:
    """A bar for each decision, instances of one action and time together. Returns the new y."""
    bars: dict[tuple[str, int, int], list[Decision]] = {}
    last = {decision.id: decision for decision in story.decisions}
    for decision in last.values():
        span = unix_s(decision.issued_at) - story.start_s, unix_s(decision.expires_at) - story.start_s
        bars.setdefault((decision.action, round(span[0] / 10), round(span[1] / 10)), []).append(decision)
    spans, texts = [], []
    for (action, _, _), group in bars.items():
        left = times.x(min(unix_s(d.issued_at) for d in group) - story.start_s)
        right = times.x(max(unix_s(d.expires_at) for d in group) - story.start_s)
        verdicts = sorted({d.outcome.verdict for d in group if d.outcome})
        text = f"{action}{f' x{len(group)}' if len(group) > 1 else ''} {' '.join(verdicts)}".strip()
        spans.append((left, max(right, left + _CHARACTER * len(text)) + 8))
        texts.append((left, right, text, "; ".join(sorted({d.ended_because or d.reason for d in group}))))
    chosen = lanes(spans)
    drawn.append(element("text", "decisions", x=LEFT - 6, y=top + 9, text_anchor="end", class_="panel"))
    for (left, right, text, title), lane in zip(texts, chosen, strict=True):
        y = top + lane * _BAR
        drawn.append(
            element(
                "rect",
                title=title,
                x=left,
                y=y,
                width=max(right - left, 3.0),
                height=9,
                rx=2,
                class_="detector",
            )
        )
        drawn.append(element("text", text, x=left, y=y + 20, class_="cause"))
    return top + (max(chosen, default=0) + 1) * _BAR


def _share(story: Story) -> str:
    return f"{story.late / max(story.requests, 1):.2%}"
