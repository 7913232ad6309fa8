"""`layerwatch orders`: what people have ordered, and the end of an order."""

from __future__ import annotations

import time

import click
import msgspec

from layerwatch.cli import ordering, show
from layerwatch.hosting import settings
from layerwatch.hosting.order_sender import read_orders
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.operations import KINDS, Operation
from layerwatch.schemas.orders import holds
from layerwatch.schemas.times import rfc3339

_COLUMNS = ("issued (UTC)", "kind", "service", "what", "until", "author", "reason", "id")


@click.command("orders")
@click.option("--service", help="Only about this service.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--every", is_flag=True, help="Ended ones too.")
@click.option("--end", "ended", metavar="ID", help="End this order now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(service: str | None, kind: str | None, every: bool, ended: str | None, as_json: bool) -> None:
    """List the orders that hold, newest last. A kill is taken back with `layerwatch kill --resume`."""
    loaded = settings.load()
    orders = read_orders(loaded)
    now_s = time.time()
    if ended is not None:
        order = orders.get(ended)
        if order is None:
            raise ConfigError(f"there is no order {ended}: `layerwatch orders` lists them")
        if order.kind == "kill":
            raise ConfigError("a kill holds on machines without Kafka too: use `layerwatch kill --resume`")
        order = msgspec.structs.replace(order, revision=order.revision + 1, ended_at=rfc3339(now_s))
        ordering.give(loaded, order)
        ordering.tell(order, as_json, f"{order.id} has ended")
        return
    found = [
        order
        for order in orders.all()
        if (service in (None, order.service) and kind in (None, order.kind))
        and (every or holds(order, now_s))
    ]
    if as_json:
        show.json_lines(msgspec.to_builtins(order) for order in found)
    elif found:
        show.console().print(show.table(_COLUMNS, [_row(order) for order in found]))
    else:
        click.echo("no orders found")


def _row(order: Operation) -> tuple[str, ...]:
    end = order.ended_at or order.expires_at
    return (
        show.moment(order.issued_at),
        order.kind,
        order.service,
        _what(order),
        show.moment(end) if end else "",
        order.author,
        order.reason,
        order.id,
    )


def _what(order: Operation) -> str:
    if order.override is not None:
        return f"{order.override.action} on {order.override.instance}/{order.override.domain}"
    if order.mark is not None:
        return f"{order.mark.change} {order.mark.version}".strip()
    signs = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
    return " ".join(f"{m.name}{signs[m.is_regex, m.is_equal]}{m.value}" for m in order.matchers)
