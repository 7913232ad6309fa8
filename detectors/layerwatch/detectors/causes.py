"""Why: the pattern over layers and host part, joined with the GPU's counters.

Rules, most specific first, each with the sentence that a person can check. Without counters the pattern alone speaks,
with less confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64, Bools, median
from layerwatch.detectors.gpu import GpuView
from layerwatch.schemas.alerts import Cause

_PCIE_MIB_S = 10_000
_DRAM_PCT = 55
_GPU_CAUSES = {"pcie_contention", "memory_bandwidth", "clock_throttle", "gpu_contention"}
_COUNTED = 0.8
_SAID_BY_RUNTIME = {"profile_switch", "quantization_range"}
_SLOW_EXCESS = 0.25  # of the expected sum, from which an execution's layers count as slow
_SPREAD = 0.2  # of the layers: more than another process's slices would hit
_CROWDED_OUT = 1.0  # log units: layers that wait for memory take many times as long
_HOST_SHARE = 0.25  # of the executions: a neighbour on the GPU does not slow the host
#: Log units: nine times as long, one after the other. Executions that wait for the interpreter's lock do so at each call, so
#: that few come, and those before the trouble would outvote them.
_LOCKED, _LATEST = 2.2, 8
#: Of the newest executions each waits for the lock since it was taken; a starved host lets one in ten run at once.
_NEWEST = 32
#: SM utilisation beside which any neighbour shows, and the part of it that a starved host leaves.
_CLEAR_PCT, _IDLER = 10, 0.6
#: Counters that somebody else's work shows in, and by how much more at the least.
_WORK = (
    ("tensor_active_pct", "tensor cores", "%", 1.0),
    ("dram_bandwidth_pct", "DRAM bandwidth", "%", 2.0),
    ("pcie_rx_mib_s", "received over PCIe", "MiB/s", 1000.0),
)
_HELD_PCT = 30  # more of the time with something running on the GPU, and less on its SMs: memory is managed
_SAMPLED_TO_BE_SURE = 10  # that the layers are as usual: a starved host shows in them too


@dataclass(frozen=True, slots=True)
class Pattern:
    """What the executions since the onset look like; log units unless said otherwise."""

    channels: frozenset[str]
    host_hits: float  # share of executions whose host part stands out
    host_p50: float
    host_p95: float
    host_latest: float  # median of the newest few
    host_each: bool  # whether, since the first slow one of the newest, each has been slow
    host_usual: float
    slices: float  # share of sampled executions with one layer far out
    common: float
    total: float
    switched_hits: float  # share of the hits that had switched profile
    sampled: int  # executions whose layers are known
    spread: float  # of those whose layers are slow, the median share of layers that are
    slow_total: float  # and the median of their sums of layers


def pattern_of(
    executions: F64,
    sampled: F64,
    channels: frozenset[str],
    host_threshold: float,
    slice_threshold: float,
    usual: float,
) -> Pattern:
    """Summary of ring rows since the onset."""
    host = executions[:, e.HOST] if len(executions) else np.zeros(1)
    hits = host > 0.8 * host_threshold
    switched = executions[hits, e.SWITCHED] if len(executions) and hits.any() else np.zeros(1)
    layered = len(sampled) > 0
    slow = sampled[sampled[:, s.EXCESS] > _SLOW_EXCESS] if layered else sampled
    return Pattern(
        channels=channels,
        host_hits=float(hits.mean()),
        host_p50=float(np.quantile(host, 0.5)),
        host_p95=float(np.quantile(host, 0.95)),
        host_latest=median(host[-_LATEST:]),
        host_each=_each(host[-_NEWEST:] > 0.8 * host_threshold),
        host_usual=usual,
        slices=float((sampled[:, s.SLICE] > slice_threshold).mean()) if layered else 0.0,
        common=median(sampled[:, s.COMMON]) if layered else 0.0,
        total=median(sampled[:, s.TOTAL]) if layered else 0.0,
        switched_hits=float(switched.mean()),
        sampled=len(sampled),
        spread=median(slow[:, s.SPREAD]) if len(slow) else 0.0,
        slow_total=median(slow[:, s.TOTAL]) if len(slow) else 0.0,
    )


def causes_of(
    pattern: Pattern, gpu: GpuView | None, somebody_else: bool = False, nobody_else: bool = False
) -> list[Cause]:
    """Most likely first; never empty.

    Args:
        somebody_else: counters show work beyond what the instance has ever shown.
        nobody_else: they would show it, and do not.
    """
    if gpu is not None and gpu.known:
        found = _by_counters(pattern, gpu, somebody_else, nobody_else)
    else:
        found = _by_pattern(pattern)
    return found or [Cause("unknown", 0.3, "no pattern that is known")]


def is_sure(cause: Cause) -> bool:
    """Whether more counters would change nothing: they say so already, or the runtime does."""
    return cause.cause in _SAID_BY_RUNTIME or is_seen_by_counters(cause)


def is_seen_by_counters(cause: Cause) -> bool:
    """Whether the GPU's counters say so, not only what executions look like."""
    return cause.confidence >= _COUNTED and cause.cause in _GPU_CAUSES


def _by_counters(p: Pattern, gpu: GpuView, somebody_else: bool, nobody_else: bool) -> list[Cause]:
    if _is_switch(p):
        return [_switch(p, 0.95)]
    sm, usual_sm = gpu.at("sm_utilisation_pct"), gpu.usually("sm_utilisation_pct")
    pcie = gpu.at("pcie_tx_mib_s") + gpu.at("pcie_rx_mib_s")
    usual_pcie = gpu.usually("pcie_tx_mib_s") + gpu.usually("pcie_rx_mib_s")
    if pcie > max(_PCIE_MIB_S, 4 * usual_pcie) and sm <= usual_sm + 15:
        text = f"PCIe traffic {usual_pcie / 1024:.1f} -> {pcie / 1024:.1f} GiB/s, SM utilisation {gpu.both('sm_utilisation_pct')}"
        return [Cause("pcie_contention", 0.9, text)]
    dram = gpu.at("dram_bandwidth_pct")
    if dram > max(_DRAM_PCT, gpu.usually("dram_bandwidth_pct") + 30):
        text = f"DRAM bandwidth {gpu.both('dram_bandwidth_pct')}, {_layers(p)}"
        return [Cause("memory_bandwidth", 0.9, text)]
    drop = np.log(gpu.usually("sm_clock_mhz") / gpu.at("sm_clock_mhz")) if gpu.at("sm_clock_mhz") > 0 else 0.0
    if drop > 0.1 and p.common > 0.5 * drop:
        return [Cause("clock_throttle", 0.8, f"SM clock {gpu.both('sm_clock_mhz', 'MHz')}, {_layers(p)}")]
    held = gpu.at("gpu_utilisation_pct") > gpu.usually("gpu_utilisation_pct") + _HELD_PCT
    if held and sm < usual_sm:
        text = f"the GPU is busy for {gpu.both('gpu_utilisation_pct')} of the time, its SMs for {gpu.both('sm_utilisation_pct')}"
        return [Cause("allocation", 0.6, f"{text}, as where memory is allocated and freed, {_layers(p)}")]
    busier = sm > 1.5 * usual_sm + 8
    shared = somebody_else and sm > usual_sm  # short work of others moves no median, and slows few executions
    # A host that comes late with kernels lengthens layers, too, and leaves the GPU idle.
    alone = nobody_else and usual_sm < _CLEAR_PCT and sm < _IDLER * usual_sm
    if busier or shared or (not alone and not _is_host(p, sm > 1.5 * usual_sm + 4) and _layers_moved(p)):
        confidence = 0.9 if busier else 0.8 if shared else 0.6
        seen = f"SM utilisation {gpu.both('sm_utilisation_pct')}"
        if shared and not busier:
            seen += _others_work(gpu)
        return [Cause("gpu_contention", confidence, f"{seen}, {_layers(p)}")]
    return [_host_cause(p, 0.8, f", SM utilisation {gpu.both('sm_utilisation_pct')}")]


def _others_work(gpu: GpuView) -> str:
    """What else shows somebody else's work, where the SMs' utilisation hardly does."""
    shown = [
        f"{label} {gpu.both(name, unit)}"
        for name, label, unit, margin in _WORK
        if gpu.at(name) > 1.5 * gpu.usually(name) + margin
    ]
    return ", " + (" and ".join(shown) or "more now and then than this instance ever did")


def _by_pattern(p: Pattern) -> list[Cause]:
    if _is_switch(p):
        return [_switch(p, 0.9)]
    if p.host_hits >= _HOST_SHARE or not _layers_moved(p):
        return [_host_cause(p, 0.5, "; no GPU counters")]
    text = f"{_layers(p)}; no GPU counters"
    if p.spread < _SPREAD:
        return [Cause("gpu_contention", 0.5, text), Cause("memory_bandwidth", 0.2, text)]
    text = f"{p.spread:.0%} of the layers slower at once, {text}"
    if p.slow_total > _CROWDED_OUT:
        return [Cause("memory_bandwidth", 0.5, text), Cause("gpu_contention", 0.3, text)]
    return [Cause("pcie_contention", 0.4, text), Cause("clock_throttle", 0.3, text)]


def _is_switch(p: Pattern) -> bool:
    return "profile_switch" in p.channels or (p.host_hits > 0 and p.switched_hits >= 0.5)


def _is_host(p: Pattern, busier: bool) -> bool:
    return (p.host_hits >= 0.03 and not busier) or "host_tail" in p.channels or "host_level" in p.channels


def _layers_moved(p: Pattern) -> bool:
    return p.slices > 0 or p.common > 0.1 or p.total > 0.2


def _switch(p: Pattern, confidence: float) -> Cause:
    text = (
        f"{p.switched_hits:.0%} of the slow executions had just changed their context's optimization profile; "
        "give each length range a context of its own"
    )
    return Cause("profile_switch", confidence, text)


def _host_cause(p: Pattern, confidence: float, more: str) -> Cause:
    seen = f"time outside of the layers x{np.exp(p.host_p50):.1f} at the median, x{np.exp(p.host_p95):.1f} at p95"
    layers = ", layers as usual" if not _layers_moved(p) else f", {_layers(p)}"
    if p.host_latest > _LOCKED and p.host_each and p.slices < 0.1:
        seen = f"time outside of the layers x{np.exp(p.host_latest):.0f} in the latest {_LATEST} executions"
        return Cause("interpreter_lock", confidence, seen + layers + more)
    steady = p.host_each and p.host_p50 > max(0.35, p.host_usual + 0.3) and p.host_p95 - p.host_p50 < 0.9
    steady = steady and p.slices < 0.02
    if steady and p.sampled >= _SAMPLED_TO_BE_SURE:
        return Cause("allocation", confidence - 0.2, seen + layers + more)
    return Cause("host_starvation", confidence, seen + layers + more)


def _each(slow: Bools) -> bool:
    """Whether it is all since it began; one more before that is a chance hit."""
    usual = (~slow).nonzero()[0]
    began = int(usual[-1]) + 1 if len(usual) else 0
    return began < len(slow) and int(np.count_nonzero(slow[:began])) <= 1


def _layers(p: Pattern) -> str:
    return (
        f"one layer far out in {p.slices:.0%} of the executions, the median layer x{np.exp(p.common):.2f}, "
        f"their sum x{np.exp(p.total):.2f}"
    )
