"""Builds the Grafana dashboards beside this file: `make dashboards`. A test holds that they are what this builds.

Every metric named here must be one that a running process exports; a test asks them.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from panels import board, checkpoint_quantile, lines, number, service_variable

HERE = Path(__file__).parent


def services() -> dashboard.Dashboard:
    """What layerwatch says of the services that it watches."""
    return (
        board("layerwatch-services", "layerwatch: services")
        .with_variable(service_variable())
        .with_panel(
            number(
                "Critical alerts",
                "Requests are hurt badly now.",
                'sum(layerwatch_alerts_firing{service=~"$service", severity="critical"})',
            )
        )
        .with_panel(
            number(
                "Warnings",
                "Slower than it should be, and worth a ticket.",
                'sum(layerwatch_alerts_firing{service=~"$service", severity="warning"})',
            )
        )
        .with_panel(
            number(
                "Decisions that hold",
                "In whatever mode; only enforced ones are obeyed by machines.",
                'sum(max by (service, action, mode) (layerwatch_decision_active{service=~"$service"}))',
            )
        )
        .with_panel(
            number(
                "Not judged (s)",
                "Of the service that was judged least recently.",
                'max(time() - max by (service) (layerwatch_last_evaluation_timestamp_seconds{job="layerwatch-processor", service=~"$service"}))',
                bad_from=120,
            )
        )
        .with_panel(
            lines(
                "Alerts that fire",
                "By kind and severity. `layerwatch alerts` says which layers, on which shapes, since when and why.",
                "short",
                (
                    'sum by (service, kind, severity) (layerwatch_alerts_firing{service=~"$service"}) > 0',
                    "{{service}} {{kind}} {{severity}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Decisions",
                "1 while a lease holds. shadow is recorded only, advise is for people, enforce is obeyed.",
                "short",
                (
                    'max by (service, action, mode) (layerwatch_decision_active{service=~"$service"}) > 0',
                    "{{service}} {{action}} ({{mode}})",
                ),
                stacked_max=1,
            )
        )
        .with_panel(
            lines(
                "Replicas to order at least",
                "Of services in enforce; 0 asks for nothing. What is not known is absent, not 0.",
                "short",
                ('max by (service) (layerwatch_recommended_replicas{service=~"$service"})', "{{service}}"),
            )
        )
        .with_panel(
            lines(
                "Leases end in",
                "A decision that is not renewed ends by itself. Below 0 there is none.",
                "s",
                (
                    'max by (service) (layerwatch_decision_expires_timestamp_seconds{service=~"$service"}) - time() > 0',
                    "{{service}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Age of the last judgement",
                "From the newest execution that was judged until now.",
                "s",
                (
                    'time() - max by (service) (layerwatch_last_evaluation_timestamp_seconds{job="layerwatch-processor", service=~"$service"})',
                    "{{service}}",
                ),
            )
        )
    )


def itself() -> dashboard.Dashboard:
    """Whether layerwatch is well."""
    made = board("layerwatch-itself", "layerwatch: itself")
    made = made.with_panel(
        number(
            "Processes down",
            "Of those that are scraped.",
            'count(up{job=~"layerwatch-.*"} == 0) or vector(0)',
        )
    ).with_panel(
        number(
            "Channels dead",
            "Ways to people on which nothing arrives.",
            "count(layerwatch_notify_channel_up == 0) or vector(0)",
        )
    )
    made = made.with_panel(
        number(
            "Dead letters",
            "Notices that the other side refused for good.",
            "sum(layerwatch_notify_dead_letters)",
        )
    ).with_panel(
        number(
            "Open incidents",
            "As the notifier groups alerts.",
            "sum(layerwatch_notify_incidents)",
            bad_from=10,
        )
    )
    for panel in (*_stream_panels(), *_agent_panels(), *_people_panels()):
        made = made.with_panel(panel)
    return made


def _stream_panels() -> list[timeseries.Panel]:
    return [
        lines(
            "Executions scored",
            "By the processors.",
            "ops",
            ("sum(rate(layerwatch_executions_total[$__rate_interval]))", "executions"),
            ("sum(rate(layerwatch_repeated_total[$__rate_interval]))", "messages that came twice"),
        ),
        lines(
            "Records that wait",
            "In Kafka, before each process. It should come back to nothing within seconds.",
            "short",
            ("sum by (job, instance) (layerwatch_lag_records)", "{{job}} {{instance}}"),
            ("layerwatch_history_lag_records", "history"),
            ("layerwatch_notify_lag_records", "notifier"),
        ),
        lines(
            "Records",
            "Folded in, and refused (they are in layerwatch.deadletter).",
            "ops",
            ("sum by (operator) (rate(layerwatch_records_total[$__rate_interval]))", "{{operator}}"),
            (
                "sum by (operator, reason) (rate(layerwatch_refused_total[$__rate_interval]))",
                "{{operator}} refused: {{reason}}",
            ),
        ),
        lines(
            "Writing state to Kafka",
            "Median and 99th percentile.",
            "s",
            *((checkpoint_quantile(q), f"{{{{job}}}} p{q * 100:g}") for q in (0.5, 0.99)),
        ),
        lines(
            "CPU",
            "Cores, by process.",
            "short",
            (
                'sum by (job, instance) (rate(process_cpu_seconds_total{job=~"layerwatch-.*"}[$__rate_interval]))',
                "{{job}} {{instance}}",
            ),
        ),
        lines(
            "Memory",
            "Resident, by process.",
            "bytes",
            ('process_resident_memory_bytes{job=~"layerwatch-.*"}', "{{job}} {{instance}}"),
        ),
    ]


def _agent_panels() -> list[timeseries.Panel]:
    return [
        lines(
            "Executions told by agents",
            "All, and those with their layers.",
            "ops",
            ("sum(rate(layerwatch_agent_executions_total[$__rate_interval]))", "executions"),
            ("sum(rate(layerwatch_agent_samples_total[$__rate_interval]))", "with layers"),
        ),
        lines(
            "Lost beside the runtimes",
            "Executions (or their layers) that were never told; the runtimes do not feel it.",
            "ops",
            (
                "sum by (reason) (rate(layerwatch_agent_lost_executions_total[$__rate_interval])) > 0",
                "{{reason}}",
            ),
            (
                'sum by (fate) (rate(layerwatch_agent_records_total{fate=~"dropped|failed"}[$__rate_interval])) > 0',
                "records {{fate}}",
            ),
        ),
    ]


def _people_panels() -> list[timeseries.Panel]:
    return [
        lines(
            "Notices",
            "What people were told, and tries that did not arrive.",
            "short",
            (
                "sum by (channel, event) (increase(layerwatch_notify_sent_total[$__rate_interval])) > 0",
                "{{channel}} {{event}}",
            ),
            (
                "sum by (channel, reason) (increase(layerwatch_notify_failed_total[$__rate_interval])) > 0",
                "{{channel}} failed: {{reason}}",
            ),
        ),
        lines(
            "Notices that wait",
            "In the outbox, by channel.",
            "short",
            ("layerwatch_notify_outbox_messages", "{{channel}}"),
        ),
    ]


def built() -> dict[str, str]:
    """File name to content, of every dashboard."""
    boards = {"services.json": services(), "itself.json": itself()}
    return {
        name: json.dumps(
            json.loads(JSONEncoder(sort_keys=True).encode(made.build())), indent=1, sort_keys=True
        )
        + "\n"
        for name, made in boards.items()
    }


if __name__ == "__main__":
    for name, content in built().items():
        (HERE / name).write_text(content)
