"""The orders of people that hold at a moment: a pure fold over the records of layerwatch.operations."""

from __future__ import annotations

import re
from collections.abc import Iterable

from layerwatch.schemas import silences
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import ACTIONS, DOMAINS
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.operations import ALL, Operation
from layerwatch.schemas.times import unix_s


def validate(order: Operation) -> None:
    """Raises InvalidRecord (`malformed`) for an order that nobody could follow, with what to mend."""
    problem = _problem(order)
    if problem:
        raise InvalidRecord("malformed", f"order {order.id or '(without id)'}: {problem}")


def holds(order: Operation, at_s: float) -> bool:
    """Whether an order holds at a moment (unix s)."""
    begins_s = unix_s(order.starts_at) if order.starts_at is not None else float("-inf")
    ends = [unix_s(end) for end in (order.expires_at, order.ended_at) if end is not None]
    return begins_s <= at_s < min(ends, default=float("inf"))


class Orders:
    """Folds revisions in any order, repeats too: of each id the highest revision counts."""

    def __init__(self) -> None:
        self._by_id: dict[str, Operation] = {}
        self._by_service: dict[str, dict[str, Operation]] = {}

    def take(self, order: Operation) -> bool:
        """Whether it was news. Raises InvalidRecord (`malformed`), and nothing has changed then."""
        validate(order)
        known = self._by_id.get(order.id)
        if known is not None and known.revision >= order.revision:
            return False
        if known is not None:
            del self._by_service[known.service][known.id]
        self._by_id[order.id] = order
        self._by_service.setdefault(order.service, {})[order.id] = order
        return True

    def get(self, id: str) -> Operation | None:
        """The last revision of an order."""
        return self._by_id.get(id)

    def all(self) -> list[Operation]:
        """The last revision of every order, ended ones too, oldest first."""
        return _oldest_first(self._by_id.values())

    def holding_anywhere(self, kind: str, at_s: float) -> list[Operation]:
        """Those of a kind that hold for any service, oldest first."""
        return [order for order in self.all() if order.kind == kind and holds(order, at_s)]

    def holding(self, service: str, kind: str, at_s: float) -> list[Operation]:
        """Those of a kind that hold for a service, oldest first."""
        return [o for o in self._about(service) if o.kind == kind and holds(o, at_s)]

    def killed(self, service: str, at_s: float) -> Operation | None:
        """The order that has switched decisions on this service off, if one has."""
        return next(iter(self.holding(service, "kill", at_s)), None)

    def silencing(self, alert: Alert, at_s: float) -> Operation | None:
        """The silence that holds an alert back, if one does."""
        found = self.holding(alert.service, "silence", at_s)
        return next((silence for silence in found if silences.silenced(alert, silence)), None)

    def marks(self, service: str) -> list[Operation]:
        """All deployments and changes that were told of a service, oldest first."""
        return [o for o in self._about(service) if o.kind == "mark" and o.ended_at is None]

    def _about(self, service: str) -> list[Operation]:
        """All orders about a service, those about all services among them, oldest first."""
        found = [o for name in {ALL, service} for o in self._by_service.get(name, {}).values()]
        return _oldest_first(found)


def _oldest_first(orders: Iterable[Operation]) -> list[Operation]:
    return sorted(orders, key=lambda order: (order.issued_at, order.id))


def _problem(order: Operation) -> str:
    if not order.id or not order.service:
        return "id and service must not be empty; * is every service"
    try:
        begins_s = unix_s(order.starts_at or order.issued_at)
        ends = [unix_s(end) for end in (order.expires_at, order.ended_at) if end is not None]
    except ValueError as error:
        return str(error)
    if order.expires_at is not None and ends[0] <= begins_s:
        return "it expires before it begins: give a later expires_at"
    if order.kind in ("override", "silence") and order.expires_at is None:
        return f"a {order.kind} needs expires_at: nothing of this kind lasts for ever"
    if order.kind == "override":
        return _override_problem(order)
    if order.kind == "mark" and order.mark is None:
        return "a mark needs `mark`: what has changed"
    return _silence_problem(order) if order.kind == "silence" else ""


def _override_problem(order: Operation) -> str:
    override = order.override
    if override is None:
        return "an override needs `override`: action and domain"
    if override.action not in ACTIONS:
        return f"{override.action!r} is no action: one of {', '.join(ACTIONS)}"
    if override.domain not in DOMAINS:
        return f"{override.domain!r} is no domain: one of {', '.join(DOMAINS)}"
    return ""


def _silence_problem(order: Operation) -> str:
    for matcher in order.matchers:
        if matcher.name not in silences.LABELS:
            return f"alerts have no {matcher.name!r}: one of {', '.join(silences.LABELS)}"
        if matcher.is_regex:
            try:
                re.compile(matcher.value)
            except re.error as error:
                return f"{matcher.value!r} is no regular expression ({error})"
    return ""
