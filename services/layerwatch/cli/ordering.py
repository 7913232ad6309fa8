"""What the commands that give orders have in common."""

from __future__ import annotations

import getpass
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from layerwatch.hosting.order_sender import send_order
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import ConfigError, InvalidRecord
from layerwatch.schemas.operations import Operation
from layerwatch.schemas.times import rfc3339

F = TypeVar("F", bound=Callable[..., Any])

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_S = 366 * 86_400


class Duration(click.ParamType):
    """`90s`, `30m`, `2h`, `3d` as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([0-9]{1,6})([smhd])", str(value))
        if not found or not 0 < (length_s := int(found[1]) * _UNIT_S[found[2]]) <= _MOST_S:
            self.fail(f"{value} is no length of time up to a year: write 90s, 30m, 2h or 3d", param, ctx)
        return float(length_s)


def said_by(command: F) -> F:
    """Options that every order has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the order as JSON."),
        click.option("--author", default=_user, help="Who says so.  [default: your login name]"),
        click.option("--reason", default="", help="Why, for those who read it later."),
    ):
        command = option(command)
    return command


def new_order(kind: Any, service: str, *, for_s: float | None, **fields: Any) -> Operation:
    """An order from now on, for some seconds or until it is ended."""
    now_s = time.time()
    return Operation(
        id=fields.pop("id", None) or f"{kind}-{secrets.token_hex(5)}",
        kind=kind,
        service=service,
        issued_at=rfc3339(now_s),
        expires_at=None if for_s is None else rfc3339(now_s + for_s),
        **fields,
    )


def give(settings: Settings, order: Operation) -> None:
    """To all processes. Raises ConfigError for an order that nobody could follow, Unavailable without Kafka."""
    try:
        send_order(settings, order)
    except InvalidRecord as error:
        raise ConfigError(error.detail) from error


def tell(order: Operation, as_json: bool, said: str) -> None:
    """What was ordered, for programs or for people."""
    click.echo(json.dumps(msgspec.to_builtins(order)) if as_json else said)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user id, as in some containers
        return "unknown"
