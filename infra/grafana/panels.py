"""The parts that the dashboards are made of."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_GREEN, _RED = "green", "red"


def lines(
    title: str, what: str, unit: str, *queries: tuple[str, str], stacked_max: float | None = None
) -> timeseries.Panel:
    """A panel of lines; `queries` are (PromQL, legend), `what` says how to read it."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(what)
        .unit(unit)
        .datasource(_SOURCE)
        .min(0)
        .span(12)
        .height(8)
        .no_value("nothing is known")
    )
    if stacked_max is not None:
        panel = panel.max(stacked_max)
    for expr, legend in queries:
        panel = panel.with_target(_query(expr, legend))
    return panel


def number(title: str, what: str, expr: str, *, bad_from: float = 1) -> stat.Panel:
    """One large number, red from `bad_from` on."""
    steps = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    steps = steps.steps([Threshold(None, _GREEN), Threshold(bad_from, _RED)])
    return (
        stat.Panel()
        .title(title)
        .description(what)
        .datasource(_SOURCE)
        .thresholds(steps)
        .color_mode(BigValueColorMode.BACKGROUND)
        .no_value("nothing is known")
        .span(6)
        .height(4)
        .with_target(_query(expr, ""))
    )


def board(uid: str, title: str) -> dashboard.Dashboard:
    """An empty one, which lets people choose their Prometheus."""
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["layerwatch"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("utc")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(source)
    )


def service_variable() -> dashboard.QueryVariable:
    """Lets people choose services, as `$service`."""
    return (
        dashboard.QueryVariable("service")
        .label("Service")
        .query("label_values(layerwatch_last_evaluation_timestamp_seconds, service)")
        .datasource(_SOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def checkpoint_quantile(quantile: float) -> str:
    """PromQL of the time that writing state takes (s)."""
    buckets = "sum by (job, le) (rate(layerwatch_checkpoint_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {buckets})"


def _query(expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend)
