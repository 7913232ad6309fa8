"""A notice as text for somebody who was asleep a minute ago: what, where, since when, which layers, why, what was decided."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from layerwatch.notify.incident import Notice
from layerwatch.schemas.alerts import Alert, LayerExcess
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s

_LAYERS = 5
_INSTANCES = 6
_DECISIONS = 3
_TITLE_LENGTH = 200

#: What each cause means, in words that need no glossary.
_CAUSES = {
    "gpu_contention": "another process uses the GPU",
    "memory_bandwidth": "something else uses up the GPU's memory bandwidth",
    "pcie_contention": "something else uses up the PCIe link",
    "host_starvation": "the host's CPUs are busy with something else",
    "interpreter_lock": "the runtime's own Python threads hold each other up",
    "allocation": "device memory is allocated while serving",
    "profile_switch": "the context switches its optimization profile again and again",
    "clock_throttle": "the GPU has lowered its clocks",
    "engine_change": "a new engine build is slower than the one before",
    "input_drift": "requests have other shapes than before",
    "quantization_range": "values leave the range that INT8 was calibrated for",
    "load": "there are more requests than it can serve",
    "unknown": "not known",
}

_MODES = {
    "shadow": "shadow: only recorded, nobody obeys",
    "advise": "advice to people, no machine obeys",
    "enforce": "enforced",
}


@dataclass(frozen=True, slots=True)
class Links:
    """Where to look further; `owner` is who is responsible, empty where nobody said."""

    history_url: str
    runbook_url: str | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """A title of one line, facts as (label, text), and the links. No line needs another one to be understood."""

    title: str
    facts: list[tuple[str, str]]
    page_url: str
    runbook_url: str | None

    @property
    def text(self) -> str:
        """All of it, as plain text."""
        return "\n".join([self.title, *(f"{label}: {text}" for label, text in self.facts)])


def tell(notice: Notice, links: Links) -> Story:
    """A notice in words."""
    worst = notice.alerts[0]
    page_url = worst.history_url or f"{links.history_url.rstrip('/')}/v1/alerts/{quote(worst.id, safe='')}"
    runbook_url = worst.runbook_url or links.runbook_url
    facts = [(label, text) for label, text in _facts(notice, worst, links) if text]
    facts.append(("Look", f"{page_url} or `layerwatch alerts {worst.id}`"))
    if runbook_url:
        facts.append(("Runbook", runbook_url))
    return Story(_title(notice, worst), facts, page_url, runbook_url)


def _title(notice: Notice, worst: Alert) -> str:
    head = "RESOLVED" if notice.event == "resolved" else notice.severity.upper()
    said = worst.summary.partition(" (")[0]  # counts and ratios are told in full below
    title = f"{head} {notice.service}: {said}"
    return title if len(title) <= _TITLE_LENGTH else title[: _TITLE_LENGTH - 1] + "…"


def _facts(notice: Notice, worst: Alert, links: Links) -> Iterator[tuple[str, str]]:
    yield "Impact", _impact(worst)
    yield "Where", _where(notice, worst)
    yield "Since", _since(notice)
    yield "Layers", "; ".join(map(_layer, worst.layers[:_LAYERS]))
    yield "Why", _why(worst)
    decided = dict.fromkeys(map(_decision, reversed(notice.decisions)))  # newest first, each text once
    yield "Decided", "; ".join(list(decided)[:_DECISIONS]) or "nothing"
    yield "Owner", links.owner


def _impact(alert: Alert) -> str:
    impact = alert.impact
    return (
        f"p99 {impact.baseline_p99_ms:.3g} -> {impact.observed_p99_ms:.3g} ms ({impact.p99_ratio:.1f}x), "
        f"p50 {impact.p50_ratio:.1f}x, {impact.affected} of {impact.executions} executions slower"
    )


def _where(notice: Notice, worst: Alert) -> str:
    instances = sorted({name for alert in notice.alerts for name in alert.instances})
    named = ", ".join(instances[:_INSTANCES])
    more = f" and {len(instances) - _INSTANCES} more" if len(instances) > _INSTANCES else ""
    fleet = max((alert.fleet or 0 for alert in notice.alerts), default=0)
    of = f" of {fleet}" if fleet >= len(instances) else ""
    count = f"{len(instances)}{of} instances: " if of or len(instances) > 1 else ""
    on = " ".join(text for text in (worst.host and f"host {worst.host},", worst.gpu) if text)
    return f"{count}{named}{more}" + (f"; {on}" if on else "")


def _since(notice: Notice) -> str:
    began_s = min(unix_s(alert.started_at) for alert in notice.alerts)
    text = _moment(began_s)
    if notice.quiet_since_s is not None:
        # By the clock of the executions, like the beginning: a replay is read at another time than it tells of.
        end_s = max(unix_s(alert.closed_at or alert.updated_at) for alert in notice.alerts)
        until = f"until {_moment(end_s)} ({_duration(end_s - began_s)})"
        text += f", {until}" if notice.event == "resolved" else f", quiet again since {_moment(end_s)}"
    times = notice.flaps
    return text + (f"; came back {times} time{'s' if times > 1 else ''}" if times else "")


def _moment(time_s: float) -> str:
    return dt.datetime.fromtimestamp(time_s, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    return str(dt.timedelta(seconds=max(0, round(seconds))))


def _layer(layer: LayerExcess) -> str:
    name = layer.group or layer.name
    return f"{name[:80]} {layer.baseline_ms:.3g} -> {layer.observed_ms:.3g} ms ({layer.ratio:.1f}x)"


def _why(alert: Alert) -> str:
    if not alert.causes:
        return _CAUSES["unknown"]
    return "; or ".join(
        f"{_CAUSES.get(cause.cause, cause.cause)} ({cause.confidence:.0%} sure): {cause.evidence}"
        for cause in alert.causes[:2]
    )


def _decision(decision: Decision) -> str:
    with_what = "".join(f", {name} {value}" for name, value in sorted(decision.parameters.items()))
    state = "" if decision.status == "active" else f", {decision.status}"
    said = f"{decision.action}{with_what}{state} ({_MODES.get(decision.mode, decision.mode)})"
    outcome = decision.outcome
    return said if outcome is None else f"{said}, {outcome.verdict}: {outcome.said}"
