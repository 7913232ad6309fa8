"""How often a service may wake someone up, whatever it has found.

What an engineer on call wants, in this order: to hear of what hurts requests badly, always; to be woken by the rest seldom
enough to keep believing it; and that one noisy detector does not use up what the others need. Hence three rules:

1. An alert whose effect is large pages whatever the budget says. It is counted all the same: while a service burns, its
   smaller troubles can wait.
2. All others page while the service's budget lasts.
3. The slow path has a small budget of its own within that: what creeps is never worth the last page.
4. What comes back within five minutes has paged already: people have it open as one incident.

An alert beyond the budget is told as info, says so, and becomes a page if its effect grows large.
"""

from __future__ import annotations

import math

import msgspec

from layerwatch.schemas.alerts import Impact

_MONTH_S = 30 * 86_400.0
_PAGES_PER_MONTH, _PAGES_AT_ONCE = 60.0, 20.0  # two a day: more than a person answers
_SLOW_PER_MONTH, _SLOW_AT_ONCE = 4.0, 2.0  # one a week
_LARGE_P50, _LARGE_P99 = 1.5, 3.0
_COMEBACK_S = 300.0  # as long as the notifier keeps an incident open without an alert


class PageBudget(msgspec.Struct):
    """Two buckets of pages that fill up with event time."""

    left: float = _PAGES_AT_ONCE
    slow_left: float = _SLOW_AT_ONCE
    at_s: float = 0.0
    paged: dict[str, float] = {}  # troubles that have paged, and when they were seen last

    def ask(self, kind: str, trouble: str, severity: str, impact: Impact, time_s: float) -> str:
        """Take a page for an alert of severity warning or above; why there is none, or "" if it may page."""
        self._fill(time_s)
        slow = kind == "precursor"
        if not slow and abs(time_s - self.paged.get(trouble, -math.inf)) <= _COMEBACK_S:
            return ""
        if not is_large(severity, impact) or slow:
            if slow and self.slow_left < 1:
                return f"the slow path has had its {_SLOW_PER_MONTH:.0f} pages a month"
            if self.left < 1:
                return f"the service has had its {_PAGES_PER_MONTH:.0f} pages a month"
        self.left = max(0.0, self.left - 1)
        if slow:
            self.slow_left -= 1
        return ""

    def seen(self, trouble: str, time_s: float) -> None:
        """A trouble that has paged is still there, or has just ended."""
        self.paged = {known: at_s for known, at_s in self.paged.items() if time_s - at_s <= _COMEBACK_S}
        self.paged[trouble] = max(time_s, self.paged.get(trouble, -math.inf))

    def _fill(self, time_s: float) -> None:
        passed_s = max(0.0, time_s - self.at_s)
        self.at_s = max(self.at_s, time_s)
        self.left = min(_PAGES_AT_ONCE, self.left + passed_s / _MONTH_S * _PAGES_PER_MONTH)
        self.slow_left = min(_SLOW_AT_ONCE, self.slow_left + passed_s / _MONTH_S * _SLOW_PER_MONTH)


def is_large(severity: str, impact: Impact) -> bool:
    """Whether requests feel it so much that no budget may hide it."""
    return severity == "critical" or impact.p50_ratio >= _LARGE_P50 or impact.p99_ratio >= _LARGE_P99
