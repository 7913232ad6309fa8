"""`layerwatch mark`: tell of a deployment or change, so that what begins right after is attributed to it."""

from __future__ import annotations

import time
from typing import get_args, get_type_hints

import click
import msgspec

from layerwatch.cli import ask, ordering
from layerwatch.hosting import settings
from layerwatch.schemas.operations import Mark

_CHANGES = get_args(get_type_hints(Mark)["change"])


@click.command("mark")
@click.argument("service")
@click.argument("change", type=click.Choice(_CHANGES))
@click.option("--version", default="", help="What is deployed now, as you call it.")
@click.option("--engine", default="", help="The build that serves from then on (sha256:...).")
@click.option("--instance", "instances", multiple=True, help="Only these instances; may be given again.")
@click.option("--at", help="When: 5m (ago), or an RFC 3339 time.  [default: now]")
@ordering.said_by
def command(
    service: str,
    change: str,
    version: str,
    engine: str,
    instances: tuple[str, ...],
    at: str | None,
    reason: str,
    author: str,
    as_json: bool,
) -> None:
    """Tell that SERVICE was changed. Call it from your deployment: alerts that begin within ten minutes name it."""
    mark = msgspec.convert(
        {"change": change, "version": version, "engine": engine, "instances": instances}, Mark
    )
    order = ordering.new_order("mark", service, for_s=None, reason=reason, author=author, mark=mark)
    order = msgspec.structs.replace(order, starts_at=ask.since(at, time.time()) or order.issued_at)
    ordering.give(settings.load(), order)
    ordering.tell(order, as_json, f"{change} of {service} at {order.starts_at} is known ({order.id})")
