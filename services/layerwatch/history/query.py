"""The query string of a list, checked: conditions, page and size."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layerwatch.history.filters import Filter
from layerwatch.history.reader import Condition, Cursor

LIMIT_DEFAULT = 100
LIMIT_MOST = 1000


class BadParameter(Exception):
    """Raised for a query parameter that cannot be used; says which one and what is allowed."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"parameter {name}: {allowed}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Query:
    """What a list is asked for."""

    conditions: list[Condition]
    after: Cursor | None
    limit: int


def parse(parameters: Iterable[tuple[str, str]], filters: Sequence[Filter]) -> Query:
    """The query of these (name, value) pairs; raises BadParameter."""
    given = once(parameters, [*(filter.name for filter in filters), "limit", "page"])
    conditions = [_condition(filter, given[filter.name]) for filter in filters if filter.name in given]
    page = given.get("page")
    return Query(conditions, _cursor(page) if page is not None else None, _limit(given.get("limit")))


def once(parameters: Iterable[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """The parameters by name; raises BadParameter for one that is unknown or given twice."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in known:
            raise BadParameter(name, f"unknown; known are {', '.join(known) if known else 'none here'}")
        if name in given:
            raise BadParameter(name, "may be given once")
        given[name] = value
    return given


def token(cursor: Cursor) -> str:
    """A cursor as an opaque text for clients."""
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")


def _cursor(page: str) -> Cursor:
    try:
        first_ms, id = json.loads(base64.b64decode(page + "=" * (-len(page) % 4), b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise BadParameter("page", "must be a `next` of an earlier answer") from error
    if not (type(first_ms) is int and abs(first_ms) < 2**63 and type(id) is str):
        raise BadParameter("page", "must be a `next` of an earlier answer")
    return first_ms, id


def _limit(value: str | None) -> int:
    if value is None:
        return LIMIT_DEFAULT
    if not (value.isascii() and value.isdecimal() and len(value) < 9 and 1 <= int(value) <= LIMIT_MOST):
        raise BadParameter("limit", f"must be a number from 1 to {LIMIT_MOST}")
    return int(value)


def _condition(filter: Filter, value: str) -> Condition:
    if filter.allowed is not None and value not in filter.allowed:
        raise BadParameter(filter.name, f"must be one of {', '.join(filter.allowed)}")
    try:
        return filter.condition, filter.parse(value)
    except ValueError as error:
        raise BadParameter(filter.name, "must be an RFC 3339 time such as 2026-11-22T10:00:00Z") from error
