"""One alert as a page of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from layerwatch.cli.ask import duration
from layerwatch.cli.show import moment, table

Document = dict[str, Any]


def alert_page(alert: Document, events: Sequence[Document]) -> Group:
    """The newest revision in full, and how it came to that."""
    parts: list[RenderableType] = [Text(alert["summary"], style="bold"), *map(Text, _facts(alert))]
    for title, shown in (
        ("Layers", _layers(alert)),
        ("Causes", _causes(alert)),
        ("Shapes", _buckets(alert)),
        ("Revisions", _revisions(events)),
    ):
        if shown.row_count:
            parts += [Text(f"\n{title}", style="bold"), shown]
    return Group(*parts)


def _facts(alert: Document) -> Iterator[str]:
    impact, closed = alert["impact"], alert.get("closed_at")
    yield f"{alert['status']}, {alert['severity']}, {alert['kind']} of {alert['service']} ({alert['scope']})"
    end = f"closed {moment(closed)} after {duration(alert['opened_at'], closed)}" if closed else "open"
    yield f"began {moment(alert['started_at'])} UTC, opened {moment(alert['opened_at'])}, {end}"
    yield (
        f"p99 {impact['baseline_p99_ms']:.3g} -> {impact['observed_p99_ms']:.3g} ms ({impact['p99_ratio']:.2f}x),"
        f" p50 {impact['p50_ratio']:.2f}x, {impact['affected']} of {impact['executions']} executions affected"
    )
    yield f"instances {', '.join(alert['instances'])}; host {alert['host']}, {alert['gpu']}"
    yield f"engine {alert['engine']}"
    for name in ("decision", "runbook_url"):
        if alert.get(name):
            yield f"{name.removesuffix('_url')} {alert[name]}"


def _layers(alert: Document) -> Table:
    return table(
        ("usual ms", "now ms", "ratio", "excess ms", "layer", "group"),
        [
            (
                f"{layer['baseline_ms']:.4f}",
                f"{layer['observed_ms']:.4f}",
                f"{layer['ratio']:.2f}",
                f"{layer['excess_ms']:+.4f}",
                layer["name"],
                layer["group"],
            )
            for layer in alert["layers"]
        ],
    )


def _causes(alert: Document) -> Table:
    rows = [(cause["cause"], f"{cause['confidence']:.0%}", cause["evidence"]) for cause in alert["causes"]]
    return table(("cause", "sure", "evidence"), rows)


def _buckets(alert: Document) -> Table:
    return table(
        ("profile", "executions", "ratio", "shapes"),
        [
            (
                str(bucket["profile"]),
                str(bucket["executions"]),
                f"{bucket['ratio']:.2f}",
                ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in bucket["shapes"].items()),
            )
            for bucket in alert["buckets"]
        ],
    )


def _revisions(events: Sequence[Document]) -> Table:
    return table(
        ("revision", "at (UTC)", "status", "severity", "summary"),
        [
            (
                str(event["revision"]),
                moment(event["updated_at"]),
                event["status"],
                event["severity"],
                event["summary"],
            )
            for event in events
        ],
    )
