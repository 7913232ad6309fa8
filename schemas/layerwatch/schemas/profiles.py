"""layerwatch.profiles: what one instance executed in a short window, as columns.

Arrays travel as little-endian blobs; layer names travel once, in the engine's manifest.
"""

from __future__ import annotations

import msgspec

#: Most executions whose layers one message carries (source: architecture, 64 x 427 layers x 4 B = 109 KB).
MAX_SAMPLED = 64

#: Columns of `ProfileBatch.counters`, in order. NaN where the GPU or driver has no such counter.
COUNTER_COLUMNS = (
    "time_s",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "power_w",
    "temperature_c",
    "gpu_utilisation_pct",
    "memory_utilisation_pct",
    "throttle_reasons",
    "sm_utilisation_pct",
    "sm_occupancy_pct",
    "tensor_active_pct",
    "dram_bandwidth_pct",
    "pcie_tx_mib_s",
    "pcie_rx_mib_s",
)

#: Bits of `ProfileBatch.flags`.
SWITCHED_PROFILE = 1  # this execution changed its context's optimization profile first
ON_TWIN = 2  # ran on the profiled twin context
IN_GRAPH = 4  # launched as a captured CUDA graph
CHANGED_SHAPE = 8  # another shape or profile than its context's execution before, or its first


class LayerBlock(msgspec.Struct, array_like=True, frozen=True):
    """Layer times of the sampled executions that ran with one optimization profile."""

    profile: int
    layers: int  # how many; must equal the manifest's count for this profile
    rows: bytes  # uint32 [k]: which executions of the message
    times_ms: bytes  # float32 [k, layers], in call order


class PrecisionBlock(msgspec.Struct, array_like=True, frozen=True):
    """How far tensors went towards their calibrated range, and how far the output was from a reference engine's."""

    rows: bytes  # uint32 [k]
    tensors: int  # how many; the manifest's `ranges`, in order
    clipped: bytes  # float32 [k, tensors]: fraction of values at or past the range
    peak_ratio: bytes  # float32 [k, tensors]: largest value over the range
    cosine: bytes = b""  # float32 [k] against the reference, where one runs
    relative_l2: bytes = b""  # float32 [k]
    top1_agreement: bytes = b""  # float32 [k]


class ProfileBatch(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.profiles/1"):
    """One message of an agent: n executions of one instance, in order.

    `boot_ms` (unix ms at which the process began) and `sequence` (from 0) order an instance's messages and tell
    repeats. `window_end_s` is the instance's clock: all that happened before it is in this message or an earlier one.
    """

    service: str
    instance: str
    boot_ms: int
    sequence: int
    engine: str
    window_start_s: float
    window_end_s: float
    host: str = ""
    gpu: str = ""
    state: str = "serving"  # serving, idle, leaving, crashed
    shapes: list[dict[str, list[int]]] = []  # the distinct input shapes of this message
    times_s: bytes = b""  # float64 [n]: unix time at which each execution ended
    shape_index: bytes = b""  # uint16 [n] into `shapes`
    profile_index: bytes = b""  # uint8 [n]: optimization profile
    flags: bytes = b""  # uint8 [n]
    end_to_end_ms: bytes = b""  # float32 [n]
    host_ms: bytes = b""  # float32 [n], or empty where the probe does not know the host's part
    layers: list[LayerBlock] = []
    counters: bytes = b""  # float64 [m, len(COUNTER_COLUMNS)]
    precision: PrecisionBlock | None = None
    tier: str = "canary"  # off, baseline, evidence, canary
    rate: float = 1.0  # share of executions whose layers are sampled
    dropped: int = 0  # executions lost before this message since the boot
