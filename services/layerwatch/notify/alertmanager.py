"""Alertmanager API v2: an alert is its labels, and fires for as long as it is sent again.

Nothing that changes is in a label, the severity aside, by which people route: when an incident gets worse, the alert of
the milder severity is ended and another one begins.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Request
from layerwatch.notify.story import Story
from layerwatch.schemas.times import rfc3339, unix_s

#: An alert is taken for resolved when so many times in a row it was not sent again.
_MISSED = 4
_PATH = "/api/v2/alerts"

Alert = dict[str, Any]


def request(url: str, secret: str | None, alerts: list[Alert]) -> Request:
    """To one peer; every peer gets all."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return Request(url.rstrip("/") + _PATH, alerts, headers)


def alerts(notice: Notice, story: Story, owner: str, now_s: float, resend_s: float) -> list[Alert]:
    """A notice as Alertmanager's alerts: one that fires or has ended, and ended ones of milder severities."""
    started_s = min(unix_s(alert.started_at) for alert in notice.alerts)
    shared = {
        "annotations": _annotations(notice, story),
        "generatorURL": story.page_url,
    }
    ends_s = now_s + _MISSED * resend_s
    if notice.event == "resolved" and notice.quiet_since_s is not None:
        ends_s = notice.quiet_since_s
    found = [
        shared
        | {
            "labels": labels(notice, owner, notice.severity),
            "startsAt": rfc3339(min(started_s, ends_s)),
            "endsAt": rfc3339(ends_s),
        }
    ]
    for (milder, since_s), (_, until_s) in pairwise(notice.reached.items()):
        found.append(
            shared
            | {
                "labels": labels(notice, owner, milder),
                "startsAt": rfc3339(min(started_s, since_s)),
                "endsAt": rfc3339(until_s),
            }
        )
    return found


def labels(notice: Notice, owner: str, severity: str) -> dict[str, str]:
    named = "".join(part.capitalize() for part in notice.trouble.split("_"))
    found = {
        "alertname": f"Layerwatch{named}",
        "service": notice.service,
        "severity": severity,
        "trouble": notice.trouble,
    }
    return found | ({"owner": owner} if owner else {})


def watchdog(now_s: float, resend_s: float) -> Alert:
    """Always fires while alerts are read and told: its absence at the other side is the alarm."""
    return {
        "labels": {"alertname": "LayerwatchWatchdog", "severity": "none"},
        "annotations": {"summary": "layerwatch reads alerts and tells of them; this alert always fires"},
        "endsAt": rfc3339(now_s + _MISSED * resend_s),
    }


def _annotations(notice: Notice, story: Story) -> dict[str, str]:
    found = {
        "summary": story.title,
        "description": story.text,
        "incident": notice.incident,
        "alert_ids": ", ".join(alert.id for alert in notice.alerts),
    }
    return found | ({"runbook_url": story.runbook_url} if story.runbook_url else {})
