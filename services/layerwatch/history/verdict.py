"""Is a service healthy? What a rollout asks before it goes on: healthy, anomalous, or unknown, which is neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerwatch.schemas.times import rfc3339

#: Age of what was heard from which nothing is said (s).
STALE_S = 60.0


def verdict(
    service: str, firing: Sequence[dict[str, Any]], heard_s: float | None, problem: str | None, now_s: float
) -> dict[str, Any]:
    """The answer's `data`. `firing`: alerts of warning or above; `problem`: why the history itself cannot be believed."""
    found, reason = _judge(firing, heard_s, problem, now_s)
    return {
        "service": service,
        "verdict": found,
        "reason": reason,
        "alerts": [alert["id"] for alert in firing],
        "evaluated_at": None if heard_s is None else rfc3339(heard_s),
        "expires_at": rfc3339(now_s if heard_s is None else max(heard_s + STALE_S, now_s)),
    }


def _judge(
    firing: Sequence[dict[str, Any]], heard_s: float | None, problem: str | None, now_s: float
) -> tuple[str, str]:
    if firing:
        return "anomalous", str(firing[0]["summary"])
    if problem is not None:
        return "unknown", problem
    if heard_s is None:
        return "unknown", "nothing was heard of this service"
    if now_s - heard_s > STALE_S:
        return "unknown", f"the last that was heard is {now_s - heard_s:.0f} s old"
    return "healthy", "no alert of warning or above is firing"
