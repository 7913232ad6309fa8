"""What lists can be filtered by: each query parameter as a condition for the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from layerwatch.schemas import alerts, decisions
from layerwatch.schemas.times import unix_s


def _text(value: str) -> str | int:
    return value


def _unix_ms(value: str) -> str | int:
    return round(unix_s(value) * 1000)


def _at_least(value: str) -> str | int:
    return json.dumps(alerts.SEVERITIES[alerts.SEVERITIES.index(value) :])


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter. `condition` is SQL with one question mark for what `parse` makes of the value.

    `parse` raises ValueError; `allowed` lists the values where they can be listed.
    """

    name: str
    meaning: str
    condition: str
    allowed: tuple[str, ...] | None = None
    parse: Callable[[str], str | int] = _text
    is_time: bool = False


def _equal(name: str, meaning: str, allowed: tuple[str, ...] | None = None) -> Filter:
    return Filter(name, meaning, f"{name} = ?", allowed)


def _times(field: str) -> tuple[Filter, Filter]:
    return (
        Filter("since", f"{field} at or after", "moment_ms >= ?", parse=_unix_ms, is_time=True),
        Filter("until", f"{field} before", "moment_ms < ?", parse=_unix_ms, is_time=True),
    )


ALERT_FILTERS = (
    _equal("service", "service of the alert"),
    _equal("kind", "kind of the alert", alerts.KINDS),
    _equal("severity", "exactly this severity", alerts.SEVERITIES),
    Filter(
        "min_severity",
        "this severity or a worse one",
        "severity IN (SELECT value FROM json_each(?))",
        alerts.SEVERITIES,
        _at_least,
    ),
    _equal("status", "status of the alert", alerts.STATUSES),
    Filter(
        "instance",
        "an instance that shows the trouble",
        "EXISTS (SELECT 1 FROM json_each(instances) WHERE value = ?)",
    ),
    Filter(
        "cause",
        "any of the causes, not only the first",
        "EXISTS (SELECT 1 FROM json_each(causes) WHERE value = ?)",
        alerts.CAUSES,
    ),
    *_times("opened_at"),
)

DECISION_FILTERS = (
    _equal("service", "service of the target"),
    _equal("action", "what is to be done", decisions.ACTIONS),
    _equal("mode", "what the decision is worth", decisions.MODES),
    _equal("status", "status of the decision", decisions.STATUSES),
    _equal("domain", "domain of the target", decisions.DOMAINS),
    *_times("issued_at"),
)
