"""`layerwatch silence`: nobody is told of alerts that match, for a time."""

from __future__ import annotations

import re

import click

from layerwatch.cli import ordering
from layerwatch.hosting import settings
from layerwatch.schemas.operations import ALL, Matcher
from layerwatch.schemas.silences import LABELS

_MATCHER = re.compile(r"([a-z]+)(=~|!~|!=|=)(.*)", re.DOTALL)


@click.command("silence")
@click.argument("service", required=False)
@click.option("--all", "every", is_flag=True, help="Every service.")
@click.option("--for", "for_s", type=ordering.Duration(), required=True, help="How long: 90s, 30m, 2h, 3d.")
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="LABEL=VALUE",
    help="Only alerts that fit; = != =~ !~ as in Alertmanager. All of them must.",
)
@ordering.said_by
def command(
    service: str | None,
    every: bool,
    for_s: float,
    matches: tuple[str, ...],
    reason: str,
    author: str,
    as_json: bool,
) -> None:
    """Tell nobody of alerts of SERVICE (or of --all) for a time. Decisions go on, and the history keeps everything."""
    if every == (service is not None):
        raise click.UsageError("name a SERVICE, or say --all")
    order = ordering.new_order(
        "silence",
        service or ALL,
        for_s=for_s,
        reason=reason,
        author=author,
        matchers=[_matcher(text) for text in matches],
    )
    ordering.give(settings.load(), order)
    ordering.tell(
        order, as_json, f"{service or 'every service'} is silent until {order.expires_at} ({order.id})"
    )


def _matcher(text: str) -> Matcher:
    found = _MATCHER.fullmatch(text)
    if not found or found[1] not in LABELS:
        raise click.UsageError(f"--match {text}: write LABEL=VALUE, LABEL one of {', '.join(LABELS)}")
    name, operator, value = found.groups()
    return Matcher(name, value, is_regex=operator.endswith("~"), is_equal=not operator.startswith("!"))
