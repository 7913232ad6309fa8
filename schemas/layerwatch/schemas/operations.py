"""layerwatch.operations: what people and deployers say (JSON). Compacted by id, one partition: every process reads it whole.

Four kinds of order, each for `service` or for all of them (`*`):

- `kill`: no decision on the service holds or is made, until the order ends. Its id is `kill_id(service)`: one a service.
- `override`: this action on this target, or `none` to keep our hands off it, until `expires_at`.
- `silence`: nobody is told of alerts that match, until `expires_at`. Decisions do not care.
- `mark`: a deployment or change at `starts_at`, which is then the likeliest cause of what begins right after it.

An order ends at `expires_at`, or with a later revision that has `ended_at`. Times are RFC 3339 UTC with milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from layerwatch.schemas.codec import Reader

CE_TYPE = "layerwatch.operation.v1"

KINDS = ("kill", "override", "silence", "mark")
CHANGES = ("engine", "deployment", "config", "driver", "hardware", "other")

#: Stands for every service.
ALL = "*"


class Matcher(msgspec.Struct, frozen=True):
    """As in Alertmanager: a label against a value, or against a whole regular expression (`fullmatch`)."""

    name: str  # one of `silences.LABELS`
    value: str
    is_regex: bool = False
    is_equal: bool = True  # False: the label must be another one


class Override(msgspec.Struct, frozen=True):
    """What is to hold on a target, instead of what the policy would choose; `none` is hands off."""

    action: str
    domain: str
    instance: str = "*"
    parameters: dict[str, str | int | float] = {}


class Mark(msgspec.Struct, frozen=True):
    """A change as its author tells it. `engine`: the build that serves from then on, where that is the change."""

    change: Literal["engine", "deployment", "config", "driver", "hardware", "other"]
    version: str = ""
    engine: str = ""
    instances: list[str] = []  # empty: all of the service


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="layerwatch.operation/1"):
    """One revision of an order. Of `override`, `matchers` and `mark`, the one that its kind needs is there."""

    id: str
    revision: int = 1
    kind: Literal["kill", "override", "silence", "mark"]
    service: str
    author: str = ""
    reason: str = ""
    issued_at: str
    starts_at: str | None = None  # none: at once, and of a mark `issued_at`
    expires_at: str | None = None
    ended_at: str | None = None  # taken back by a person
    override: Override | None = None
    matchers: list[Matcher] = []
    mark: Mark | None = None


OPERATION_READER: Reader[Operation] = Reader(Operation, json=True)


def kill_id(service: str) -> str:
    """The one id of a service's kill switch, so that a second order to kill is the same one."""
    return f"kill/{service}"
