"""/metrics of the agent: everything it saw, sent, dropped; its own cost comes from the process collector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layerwatch.agent.agent import Agent
from layerwatch.agent.gpu import GpuCounters
from layerwatch.agent.sinks import Sink

_PREFIX = "layerwatch_agent_"


class AgentMetrics(Collector):
    """Read when it is scraped. Labels are reasons and states, never instances."""

    def __init__(self, agent: Agent, sink: Sink, gpu: GpuCounters | None) -> None:
        self._agent = agent
        self._sink = sink
        self._gpu = gpu

    def collect(self) -> Iterator[Metric]:
        agent, sink, inbox = self._agent, self._sink, self._agent.inbox
        runtimes = list(agent.runtimes.values())
        yield _gauge("runtimes", "Runtimes that are watched", len(runtimes))
        yield _gauge("refused_runtimes", "Folders of runtimes that cannot be read", len(agent.refused))
        yield _gauge(
            "unordered_runtimes",
            "Runtimes whose control page the agent may not write",
            sum(not runtime.may_order for runtime in runtimes),
        )
        yield _gauge(
            "routed_runtimes",
            "Runtimes that were told to use another engine, or less of theirs",
            sum(runtime.route.action not in ("none", "restore") for runtime in runtimes),
        )
        yield _gauge(
            "twin_bytes",
            "Device memory that profiled twins have taken",
            sum(runtime.device_bytes() for runtime in runtimes),
        )
        yield _counters("ended_runtimes", "Runtimes that have ended", "state", agent.ended)
        yield _counter("executions", "Executions told", agent.executions)
        yield _counter("samples", "Executions told with their layers", agent.samples)
        yield _counter("messages", "Messages of executions", agent.messages)
        lost = _total(agent.past_lost, [runtime.lost() for runtime in runtimes])
        yield _counters("lost_executions", "Executions (or layers of one) never told", "reason", lost)
        probe = _total(agent.past, [runtime.counters for runtime in runtimes])
        overhead_s = probe.pop("overhead_ns", 0) / 1e9
        yield _counter("probe_overhead_seconds", "Spent by probes beside sampled executions", overhead_s)
        yield _counters("probe", "What the probes have counted", "reason", probe)
        yield _counter("datagrams", "Sampled layers received", inbox.received)
        yield _counters(
            "lost_datagrams",
            "Sampled layers refused, or dropped for want of their execution",
            "reason",
            Counter(refused=inbox.refused, dropped=inbox.dropped),
        )
        records = Counter(offered=sink.offered, acked=sink.acked, failed=sink.failed, dropped=sink.dropped)
        yield _counters("records", "Records for Kafka or the file", "fate", records)
        if self._gpu is not None:
            yield _counter("gpu_readings", "Readings of GPU counters", self._gpu.readings)


def _total(past: Counter[str], present: list[Counter[str]]) -> Counter[str]:
    """Their sum, zeros included: the sum of Counters has none, and a series would come and go."""
    total = Counter(past)
    for counts in present:
        total.update(counts)
    return total


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value=value)


def _counters(name: str, text: str, label: str, values: Counter[str]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
