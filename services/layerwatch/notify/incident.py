"""What the notifier knows of a service: its incidents, as people should hear of them.

An incident is one trouble of one service, whatever number of instances and alerts show it. It opens with the first alert
of severity warning or above, stays open while the trouble comes and goes, and is resolved once it has been quiet for the
hold. All of it is a function of the records and their times: no clock, no IO.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from layerwatch.schemas.alerts import SEVERITIES, Alert, trouble_of
from layerwatch.schemas.decisions import Decision

Event = Literal["firing", "updated", "resolved"]

#: Of one incident at most so many alerts are kept, the newest.
MOST_ALERTS = 30


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Times are unix seconds at which records were published."""

    id: str
    trouble: str  # the leading cause when it opened, or the kind where the cause is unknown
    opened_s: float
    alerts: dict[str, Alert]  # by id, the last revision of each
    reached: dict[str, float]  # severities, and since when
    quiet_since_s: float | None = None  # since when no alert of it fires
    flaps: int = 0  # how often it came back within the hold
    late: bool = False  # its first notice was held by a silence, or lay before our time
    notices: int = 0  # how many were made
    told_s: float | None = None  # when the last one was
    told: str = ""  # what the last one said, in short
    news_s: float | None = None  # since when there is more to say

    @property
    def severity(self) -> str:
        """The worst that it has reached: it never falls, so that a page is not taken back while the trouble lasts."""
        return max(self.reached, key=SEVERITIES.index)


class ServiceState(msgspec.Struct, frozen=True):
    """By id: incidents that are open, when alerts were over (unix s), and decisions."""

    incidents: dict[str, Incident] = {}
    over: dict[str, float] = {}
    decisions: dict[str, Decision] = {}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be told: all that a text or a payload of any channel needs. `number` counts from 1."""

    incident: str
    number: int
    event: Event
    service: str
    trouble: str
    severity: str
    reached: dict[str, float]
    made_s: float
    opened_s: float
    quiet_since_s: float | None  # since when nothing fires; of a resolved one, its end
    flaps: int
    alerts: list[Alert]  # firing ones first, the worst and newest before others
    decisions: list[Decision]

    @property
    def id(self) -> str:
        return f"{self.incident}-{self.number}"


def incident_id(alert: Alert) -> str:
    """The same whenever it is read again, and short enough for any service's key."""
    text = f"{alert.service}\n{trouble_of(alert.kind, alert.causes)}\n{alert.id}"
    return "i-" + hashlib.sha256(text.encode()).hexdigest()[:16]
