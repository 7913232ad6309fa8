"""A webhook with the body that Alertmanager sends (version 4), so what receives those receives ours, and ours beside it."""

from __future__ import annotations

from typing import Any

import msgspec

from layerwatch.notify.alertmanager import labels
from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Request
from layerwatch.notify.story import Story
from layerwatch.schemas.times import rfc3339, unix_s

_NO_END = "0001-01-01T00:00:00Z"  # as Alertmanager writes it


def request(url: str, secret: str | None, channel: str, owner: str, notice: Notice, story: Story) -> Request:
    """`Idempotency-Key` is the notice's id: a notice that comes twice has it twice."""
    status = "resolved" if notice.event == "resolved" else "firing"
    named = labels(notice, owner, notice.severity)
    annotations = {"summary": story.title, "description": story.text}
    if story.runbook_url:
        annotations["runbook_url"] = story.runbook_url
    ended = status == "resolved" and notice.quiet_since_s is not None
    alert = {
        "status": status,
        "labels": named,
        "annotations": annotations,
        "startsAt": rfc3339(min(unix_s(alert.started_at) for alert in notice.alerts)),
        "endsAt": rfc3339(notice.quiet_since_s or 0.0) if ended else _NO_END,
        "generatorURL": story.page_url,
        "fingerprint": notice.incident,
    }
    body: dict[str, Any] = {
        "version": "4",
        "groupKey": notice.incident,
        "truncatedAlerts": 0,
        "status": status,
        "receiver": channel,
        "groupLabels": {"service": notice.service},
        "commonLabels": named,
        "commonAnnotations": annotations,
        "externalURL": story.page_url,
        "alerts": [alert],
        "layerwatch": {
            "notice": notice.id,
            "event": notice.event,
            "alerts": [msgspec.to_builtins(alert) for alert in notice.alerts],
            "decisions": [msgspec.to_builtins(decision) for decision in notice.decisions],
        },
    }
    headers = {"Idempotency-Key": notice.id}
    return Request(url, body, headers | ({"Authorization": f"Bearer {secret}"} if secret else {}))
