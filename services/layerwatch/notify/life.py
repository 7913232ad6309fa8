"""The life of incidents: (state, record or moment) to state and notices.

Alerts are heard at the time at which they were published, and what falls due before that (a first notice, an end) comes
first. So a reader that was away for an hour, or was killed, makes the same notices as one that was always there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from layerwatch.notify.incident import (
    MOST_ALERTS,
    Event,
    Incident,
    Notice,
    ServiceState,
    incident_id,
)
from layerwatch.schemas.alerts import SEVERITIES, Alert, trouble_of
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s

#: Whether a person wants to hear nothing of this alert at this moment (unix s).
Silenced = Callable[[Alert, float], bool]

#: How long an alert that is over is remembered, so that a repeat of it is none (s).
_REMEMBER_S = 86_400.0
_REMEMBER_MOST = 1000
#: Severities of which people are told; info is for dashboards.
_TOLD = ("warning", "critical")


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds. Nothing that fell due before `since_s` (unix s) is told: that was before our time."""

    gather_s: float = (
        5.0  # from an incident's first alert to its first notice: what was decided is in it then
    )
    hold_s: float = 300.0  # without an alert until it is resolved
    update_s: float = 60.0  # between two notices of one incident, unless it gets worse
    since_s: float = 0.0


def hear(
    state: ServiceState, alert: Alert, time_s: float, rules: Rules, silenced: Silenced
) -> tuple[ServiceState, list[Notice]]:
    """An alert that was published at `time_s`. Repeats and old revisions change nothing."""
    state, notices = advance(state, alert.service, time_s, rules, silenced)
    found = _incident_of(state, alert)
    if found is None or (alert.id in found.alerts and alert.revision <= found.alerts[alert.id].revision):
        return state, notices
    heard = _with_alert(found, alert, time_s)
    dropped = dict.fromkeys(found.alerts.keys() - heard.alerts.keys(), time_s)
    incidents = state.incidents | {heard.id: heard}
    return replace(state, incidents=incidents, over=state.over | dropped), notices


def note(state: ServiceState, decision: Decision, time_s: float) -> ServiceState:
    """A decision that was published at `time_s`."""
    known = state.decisions.get(decision.id)
    if known is not None and known.revision >= decision.revision:
        return state
    state = replace(state, decisions=state.decisions | {decision.id: decision})
    about = [i for i in state.incidents.values() if not i.alerts.keys().isdisjoint(decision.alerts)]
    return replace(state, incidents=state.incidents | {i.id: _with_news(i, time_s) for i in about})


def advance(
    state: ServiceState, service: str, time_s: float, rules: Rules, silenced: Silenced
) -> tuple[ServiceState, list[Notice]]:
    """All that falls due up to `time_s`."""
    notices: list[Notice] = []
    for incident in list(state.incidents.values()):
        end_s = _end_s(incident, rules)
        while True:
            told = _told(incident, service, state, min(time_s, end_s), rules, silenced)
            incident = told[0]
            if told[1] is None:
                break
            notices.append(told[1])
        if end_s > time_s:
            if incident is not state.incidents[incident.id]:
                state = replace(state, incidents=state.incidents | {incident.id: incident})
            continue
        if incident.notices:
            notices.append(_notice(incident, "resolved", service, state, end_s))
        state = _without(state, incident, end_s)
    return _pruned(state, time_s), sorted(notices, key=lambda notice: notice.made_s)


def next_due_s(state: ServiceState, rules: Rules) -> float:
    """When `advance` may have something to do, at the earliest (unix s)."""
    return min(
        (min(_due_s(i, rules), _end_s(i, rules)) for i in state.incidents.values()), default=float("inf")
    )


def _incident_of(state: ServiceState, alert: Alert) -> Incident | None:
    """The incident that an alert belongs to, an empty new one where it opens one, None where it tells nobody anything."""
    for incident in state.incidents.values():
        if alert.id in incident.alerts:
            return incident
    if alert.id in state.over or alert.status != "firing" or alert.severity not in _TOLD:
        return None
    for incident in state.incidents.values():
        if incident.trouble == trouble_of(alert.kind, alert.causes):
            return incident
    return Incident(
        id=incident_id(alert),
        trouble=trouble_of(alert.kind, alert.causes),
        opened_s=-1.0,
        alerts={},
        reached={},
    )


def _with_alert(incident: Incident, alert: Alert, time_s: float) -> Incident:
    is_new = not incident.alerts
    alerts = {id: known for id, known in incident.alerts.items() if id != alert.id} | {alert.id: alert}
    reached = incident.reached
    worst = max((SEVERITIES.index(severity) for severity in reached), default=-1)
    if alert.severity in _TOLD and SEVERITIES.index(alert.severity) > worst:
        reached = reached | {alert.severity: time_s}
    fires = any(known.status == "firing" for known in alerts.values())
    quiet_since_s = None if fires else (incident.quiet_since_s or time_s)
    for id in list(alerts)[: max(0, len(alerts) - MOST_ALERTS)]:
        if alerts[id].status != "firing":
            del alerts[id]
    heard = replace(
        incident,
        opened_s=time_s if is_new else incident.opened_s,
        alerts=alerts,
        reached=reached,
        quiet_since_s=quiet_since_s,
        flaps=incident.flaps + (fires and incident.quiet_since_s is not None),
    )
    return heard if is_new else _with_news(heard, time_s)


def _with_news(incident: Incident, time_s: float) -> Incident:
    return incident if incident.news_s is not None else replace(incident, news_s=time_s)


def _end_s(incident: Incident, rules: Rules) -> float:
    return float("inf") if incident.quiet_since_s is None else incident.quiet_since_s + rules.hold_s


def _due_s(incident: Incident, rules: Rules) -> float:
    """When the next notice of an open incident may be due; infinite while there is nothing to say."""
    if not incident.notices:
        return incident.opened_s + rules.gather_s
    if incident.news_s is None:
        return float("inf")
    if incident.severity != incident.told.partition(" ")[0]:
        return incident.reached[incident.severity]
    return max((incident.told_s or 0.0) + rules.update_s, incident.news_s + rules.gather_s)


def _told(
    incident: Incident, service: str, state: ServiceState, time_s: float, rules: Rules, silenced: Silenced
) -> tuple[Incident, Notice | None]:
    """The next notice that is due by `time_s`, if any, and the incident after it."""
    due_s = _due_s(incident, rules)
    if due_s > time_s:
        return incident, None
    is_first = incident.notices == 0
    if is_first and due_s < rules.since_s:
        incident = replace(incident, late=True)
        due_s = rules.since_s
        if due_s > time_s:
            return incident, None
    if incident.late:
        due_s = time_s
    if incident.late and incident.quiet_since_s is not None:
        return incident, None  # it is over, and nobody was meant to hear of it when it was not
    if _is_silenced(incident, due_s, silenced):
        return replace(incident, late=True) if is_first else replace(incident, news_s=None), None
    gist = _gist(incident, state)
    worse = not is_first and incident.severity != incident.told.partition(" ")[0]
    if incident.quiet_since_s is not None and not (is_first or worse):
        return incident, None  # if it stays quiet, its end says all
    if not is_first and gist == incident.told:
        return replace(incident, news_s=None), None
    notice = _notice(incident, "firing" if is_first else "updated", service, state, due_s)
    after = replace(incident, late=False, notices=notice.number, told_s=due_s, told=gist, news_s=None)
    return after, notice


def _is_silenced(incident: Incident, time_s: float, silenced: Silenced) -> bool:
    """Whether nothing is left to tell: every alert that fires (or all, when none does) is silenced."""
    firing = [alert for alert in incident.alerts.values() if alert.status == "firing"]
    return all(silenced(alert, time_s) for alert in firing or incident.alerts.values())


def _gist(incident: Incident, state: ServiceState) -> str:
    """What is worth another notice when it changes; the severity comes first.

    It looks at all alerts and decisions, ended ones too: that something comes and goes is no news before the end.
    """
    alerts = incident.alerts.values()
    instances = sorted({name for alert in alerts for name in alert.instances})
    causes = sorted({trouble_of(alert.kind, alert.causes) for alert in alerts})
    decided = sorted({f"{decision.action}:{decision.mode}" for decision in _decisions_on(incident, state)})
    return " ".join([incident.severity, *instances, *causes, *decided])


def _decisions_on(incident: Incident, state: ServiceState) -> list[Decision]:
    found = (d for d in state.decisions.values() if not incident.alerts.keys().isdisjoint(d.alerts))
    return sorted(found, key=lambda decision: decision.issued_at)


def _notice(incident: Incident, event: Event, service: str, state: ServiceState, made_s: float) -> Notice:
    alerts = sorted(
        incident.alerts.values(),
        key=lambda alert: (
            alert.status != "firing",
            -SEVERITIES.index(alert.severity),
            -alert.impact.p99_ratio,
        ),
    )
    return Notice(
        incident=incident.id,
        number=incident.notices + 1,
        event=event,
        service=service,
        trouble=incident.trouble,
        severity=incident.severity,
        reached=incident.reached,
        made_s=made_s,
        opened_s=incident.opened_s,
        quiet_since_s=incident.quiet_since_s,
        flaps=incident.flaps,
        alerts=alerts,
        decisions=_decisions_on(incident, state),
    )


def _without(state: ServiceState, incident: Incident, time_s: float) -> ServiceState:
    incidents = {id: other for id, other in state.incidents.items() if id != incident.id}
    return replace(state, incidents=incidents, over=state.over | dict.fromkeys(incident.alerts, time_s))


def _pruned(state: ServiceState, time_s: float) -> ServiceState:
    """Without what no incident can need any more."""
    over = _newest({id: at_s for id, at_s in state.over.items() if at_s > time_s - _REMEMBER_S})
    recent = {id: d for id, d in state.decisions.items() if unix_s(d.expires_at) > time_s - _REMEMBER_S}
    decisions = dict(list(recent.items())[-_REMEMBER_MOST:])
    if len(over) == len(state.over) and len(decisions) == len(state.decisions):
        return state
    return replace(state, over=over, decisions=decisions)


def _newest(over: dict[str, float]) -> dict[str, float]:
    kept: Iterable[str] = sorted(over, key=over.__getitem__)[-_REMEMBER_MOST:]
    return {id: over[id] for id in kept}
