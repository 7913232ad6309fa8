"""PagerDuty Events API v2. The incident is the dedup_key, so whatever is sent twice pages once."""

from __future__ import annotations

from typing import Any

from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Answer, Misconfigured, Request, check
from layerwatch.notify.story import Story
from layerwatch.schemas.times import rfc3339, unix_s

URL = "https://events.pagerduty.com/v2/enqueue"

_SUMMARY_MOST = 1024
_DETAIL_MOST = 4000  # of 512 KB for the whole event


def request(url: str, secret: str, notice: Notice, story: Story) -> Request:
    """A trigger, which also updates, or a resolve."""
    key = {"routing_key": secret, "dedup_key": notice.incident}
    if notice.event == "resolved":
        return Request(url, key | {"event_action": "resolve"})
    body: dict[str, Any] = key | {
        "event_action": "trigger",
        "client": "layerwatch",
        "client_url": story.page_url,
        "links": _links(story),
        "payload": {
            "summary": story.title[:_SUMMARY_MOST],
            "source": notice.service,
            "severity": notice.severity,
            "timestamp": rfc3339(min(unix_s(alert.started_at) for alert in notice.alerts)),
            "component": notice.alerts[0].layers[0].name[:255] if notice.alerts[0].layers else notice.service,
            "group": notice.service,
            "class": notice.trouble,
            "custom_details": {label: text[:_DETAIL_MOST] for label, text in story.facts},
        },
    }
    return Request(url, body)


def judge(answer: Answer) -> None:
    """Raises what an answer means. A wrong key is a 400, like a bad event, and told apart by its words."""
    if answer.status == 400 and "routing_key" in answer.text.replace(" ", "_").lower():
        raise Misconfigured("PagerDuty does not know the routing key")
    check(answer)


def _links(story: Story) -> list[dict[str, str]]:
    found = [{"href": story.page_url, "text": "the alert, its layers and revisions"}]
    if story.runbook_url:
        found.append({"href": story.runbook_url, "text": "runbook"})
    return found
