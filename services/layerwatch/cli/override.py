"""`layerwatch override`: a person's order instead of what the policy would choose."""

from __future__ import annotations

import click

from layerwatch.cli import ordering
from layerwatch.hosting import settings
from layerwatch.schemas.decisions import ACTIONS, DOMAINS
from layerwatch.schemas.operations import Override

_DOMAIN = {"scale_out": "capacity", "hold_scale_in": "capacity"}


@click.command("override")
@click.argument("service")
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--for", "for_s", type=ordering.Duration(), required=True, help="How long: 90s, 30m, 2h, 3d.")
@click.option("--domain", type=click.Choice(DOMAINS), help="Of the target.  [default: the action's own]")
@click.option("--instance", default="*", show_default=True, help="Only this instance.")
@click.option("--engine", help="The build to go to, by the name that runtimes know it by.")
@click.option("--replicas", type=click.IntRange(0), help="How many, with scale_out.")
@ordering.said_by
def command(
    service: str,
    action: str,
    for_s: float,
    domain: str | None,
    instance: str,
    engine: str | None,
    replicas: int | None,
    reason: str,
    author: str,
    as_json: bool,
) -> None:
    """Order ACTION on SERVICE for a time; `none` keeps layerwatch's hands off it.

    It stands above all alerts and limits, and below the kill switch. In a service's shadow or advise mode it is marked so.
    """
    given: dict[str, str | int | float | None] = {"engine": engine, "replicas": replicas}
    wanted = Override(
        action=action,
        domain=domain or _DOMAIN.get(action, "routing"),
        instance=instance,
        parameters={name: value for name, value in given.items() if value is not None},
    )
    order = ordering.new_order(
        "override", service, for_s=for_s, reason=reason, author=author, override=wanted
    )
    ordering.give(settings.load(), order)
    ordering.tell(order, as_json, f"{action} on {service} until {order.expires_at} ({order.id})")
