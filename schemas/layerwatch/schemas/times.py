"""RFC 3339 in UTC with milliseconds, as the contracts write times, from and to unix seconds."""

from __future__ import annotations

import datetime as dt


def rfc3339(time_s: float) -> str:
    """`1795357477.6` becomes `2026-11-22T...Z`, rounded to the millisecond."""
    moment = dt.datetime.fromtimestamp(round(time_s * 1000) / 1000, dt.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s(text: str) -> float:
    """Unix seconds of an RFC 3339 time; raises ValueError for anything else."""
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset: write 2026-11-22T10:00:00Z")
    return moment.timestamp()
