"""What to do about an alert: a pure function, one line a cause."""

from __future__ import annotations

from typing import NamedTuple

from layerwatch.schemas.alerts import Alert

POLICY = "default@1"


class Advice(NamedTuple):
    """`domain`: capacity (how many) or routing (which engine serves)."""

    action: str
    domain: str
    reason: str
    expected: str


_SCALE_OUT = ("scale_out", "capacity")
_HOLD = ("hold_scale_in", "capacity")

_BY_CAUSE = {
    "gpu_contention": Advice(
        *_SCALE_OUT,
        "another process takes the GPU's time",
        "p99 back to its baseline once new replicas serve",
    ),
    "memory_bandwidth": Advice(
        *_SCALE_OUT,
        "the GPU's memory is shared with another load",
        "p99 back to its baseline once new replicas serve",
    ),
    "pcie_contention": Advice(
        *_SCALE_OUT,
        "the PCIe link is shared with another load",
        "p99 back to its baseline once new replicas serve",
    ),
    "load": Advice(
        *_SCALE_OUT, "more load than these replicas carry", "queueing ends once new replicas serve"
    ),
    "engine_change": Advice(
        "failover",
        "routing",
        "the engine in service is slower than the one before",
        "latency of the earlier build",
    ),
    "quantization_range": Advice(
        "fallback_precision",
        "routing",
        "tensors leave the range that INT8 was calibrated for",
        "outputs as precise as FP16",
    ),
    "profile_switch": Advice(
        "none",
        "routing",
        "no replica cures this: give each length range an execution context of its own (an optimization profile each)",
        "spikes on length jumps are gone",
    ),
    "host_starvation": Advice(
        *_HOLD, "the host's CPUs are starved; replicas are not spare now", "no capacity is lost"
    ),
    "interpreter_lock": Advice(
        *_HOLD,
        "a Python thread holds the interpreter's lock; replicas are not spare now",
        "no capacity is lost",
    ),
    "allocation": Advice(
        *_HOLD, "time goes into allocation on the host; replicas are not spare now", "no capacity is lost"
    ),
    "clock_throttle": Advice(
        *_HOLD, "the GPU has lowered its clocks; replicas are not spare now", "no capacity is lost"
    ),
}
_BY_KIND = {
    "engine_regression": _BY_CAUSE["engine_change"],
    "silence": Advice(*_HOLD, "an instance is silent: what it serves is not known", "no capacity is lost"),
}
_OTHERWISE = Advice(*_HOLD, "the cause is not known; replicas are not spare now", "no capacity is lost")

#: Which of two actions on one target wins: the later in this list.
PRECEDENCE = ("none", "restore", "hold_scale_in", "shed", "scale_out", "fallback_precision", "failover")


def advise(alert: Alert) -> Advice | None:
    """None for what is only worth knowing."""
    if alert.severity == "info":
        return None
    if alert.kind in _BY_KIND:
        return _BY_KIND[alert.kind]
    return _BY_CAUSE.get(alert.causes[0].cause, _OTHERWISE)
