"""`layerwatch kill`: the kill switch, which works with Kafka down."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import quote

import click
import msgspec

from layerwatch.cli import ordering
from layerwatch.cli.stack import url
from layerwatch.hosting import settings
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.operations import ALL, kill_id

_ASK_TIMEOUT_S = 3.0


@click.command("kill")
@click.argument("service", required=False)
@click.option("--all", "every", is_flag=True, help="Every service.")
@click.option("--resume", is_flag=True, help="Take the kill back.")
@ordering.said_by
def command(service: str | None, every: bool, resume: bool, reason: str, author: str, as_json: bool) -> None:
    """Switch decisions off: for SERVICE, or for --all. What holds is withdrawn within two seconds, nothing new is decided.

    It is written on this machine first, so its processes obey with Kafka down; then all others hear of it through Kafka.
    """
    if every == (service is not None):
        raise click.UsageError("name a SERVICE, or say --all")
    name = ALL if service is None else service
    loaded = settings.load()
    order = ordering.new_order("kill", name, for_s=None, id=kill_id(name), reason=reason, author=author)
    # There is one order of this id, given by many people: the latest one counts.
    order = msgspec.structs.replace(
        order, revision=time.time_ns() // 1_000_000, ended_at=order.issued_at if resume else None
    )
    _here(loaded, name, f"{reason or 'no reason given'} ({author})", resume)
    state = f"decisions on {'every service' if name == ALL else name} are {'on' if resume else 'off'}"
    try:
        ordering.give(loaded, order)
    except Unavailable as error:
        raise Unavailable(f"{state} on this machine; others do not know of it ({error})") from error
    ordering.tell(order, as_json, state)


def _here(loaded: Settings, service: str, reason: str, resume: bool) -> None:
    """On this machine: by the decision centre that listens here, whatever its state directory, and in ours."""
    switch = KillSwitch(loaded.state_dir)
    if resume:
        switch.resume(service)
    else:
        switch.kill(service, reason)
    request = urllib.request.Request(
        f"{url(loaded, 'decision')}/v1/kill/{quote(service, safe='')}",
        method="DELETE" if resume else "PUT",
        data=None if resume else json.dumps({"reason": reason}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=_ASK_TIMEOUT_S).close()
    except (OSError, HTTPException, urllib.error.URLError):
        return  # none runs here, or it will see the file
