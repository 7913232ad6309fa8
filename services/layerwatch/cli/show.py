"""What the command line prints: tables for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

#: Columns of output that is not a terminal: nothing is cut there.
_WIDE = 100_000


def console() -> Console:
    """Standard output. Texts from alerts are shown as they are, not taken as markup."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(width=width, markup=False, emoji=False, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts, left aligned."""
    shown = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        shown.add_row(*row)
    return shown


def json_lines(items: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    for item in items:
        click.echo(json.dumps(item, ensure_ascii=False, separators=(",", ":")))


def moment(time: str) -> str:
    """An RFC 3339 time of a contract, to the second."""
    return time[:19].replace("T", " ")
