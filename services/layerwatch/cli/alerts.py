"""`layerwatch alerts`: list alerts, or show one."""

from __future__ import annotations

import time
from typing import Any

import click

from layerwatch.cli import ask, show
from layerwatch.cli.alert_page import alert_page
from layerwatch.hosting.settings import HistorySettings, load
from layerwatch.schemas.alerts import KINDS, SEVERITIES, STATUSES

_PATH = "/v1/alerts"
_COLUMNS = ("opened (UTC)", "status", "severity", "service", "kind", "cause", "where", "lasted", "id")


@click.command()
@click.argument("id", required=False)
@click.option("--service", help="Only of this service.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only of this severity.")
@click.option("--status", type=click.Choice(STATUSES), help="Only in this state.")
@click.option("--since", help="Opened since: 15m, 2h, 3d, or an RFC 3339 time.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most to list.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(id: str | None, since: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List alerts, newest first, or show the one with ID."""
    settings = load().history
    if id is not None:
        _show(settings, id, as_json)
        return
    filters["since"] = ask.since(since, time.time())
    found = ask.items(settings, _PATH, filters, limit)
    if as_json:
        show.json_lines(found)
    elif rows := [_row(alert) for alert in found]:
        show.console().print(show.table(_COLUMNS, rows))
    else:
        click.echo("no alerts found")


def _show(settings: HistorySettings, id: str, as_json: bool) -> None:
    alert = ask.one(settings, _PATH, id)
    if alert is None:
        click.echo(f"no alert {id} found", err=as_json)
    elif as_json:
        show.json_lines([alert])
    else:
        events = ask.one(settings, _PATH, id, "/events") or {"items": [alert]}
        show.console().print(alert_page(alert, events["items"]))


def _row(alert: dict[str, Any]) -> tuple[str, ...]:
    causes, layers = alert["causes"], alert["layers"]
    closed = alert.get("closed_at")
    return (
        show.moment(alert["opened_at"]),
        alert["status"],
        alert["severity"],
        alert["service"],
        alert["kind"],
        f"{causes[0]['cause']} {causes[0]['confidence']:.0%}" if causes else "",
        layers[0]["name"] if layers else alert["summary"],
        ask.duration(alert["opened_at"], closed) if closed else "open",
        alert["id"],
    )
