"""`layerwatch decisions`: list decisions."""

from __future__ import annotations

import time
from typing import Any

import click

from layerwatch.cli import ask, show
from layerwatch.hosting.settings import load
from layerwatch.schemas.decisions import ACTIONS, MODES, STATUSES

_COLUMNS = ("issued (UTC)", "status", "mode", "target", "action", "parameters", "expires", "reason", "id")


@click.command()
@click.option("--service", help="Only of this service.")
@click.option("--action", type=click.Choice(ACTIONS), help="Only this action.")
@click.option("--mode", type=click.Choice(MODES), help="Only in this mode.")
@click.option("--status", type=click.Choice(STATUSES), help="Only in this state.")
@click.option("--since", help="Issued since: 15m, 2h, 3d, or an RFC 3339 time.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most to list.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(since: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List decisions, newest first."""
    filters["since"] = ask.since(since, time.time())
    found = ask.items(load().history, "/v1/decisions", filters, limit)
    if as_json:
        show.json_lines(found)
    elif rows := [_row(decision) for decision in found]:
        show.console().print(show.table(_COLUMNS, rows))
    else:
        click.echo("no decisions found")


def _row(decision: dict[str, Any]) -> tuple[str, ...]:
    target = decision["target"]
    return (
        show.moment(decision["issued_at"]),
        decision["status"],
        decision["mode"],
        f"{target['service']}/{target['instance']}/{target['domain']}",
        decision["action"],
        ", ".join(f"{name}={value}" for name, value in decision.get("parameters", {}).items()),
        show.moment(decision["expires_at"]),
        decision["reason"],
        decision["id"],
    )
