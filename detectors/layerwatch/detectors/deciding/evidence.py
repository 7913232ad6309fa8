"""Which independent kinds of evidence an alert rests on: each comes from another measurement.

The Isolation Forest and the forecasters are left out: they look at the same times as the other channels.
"""

from __future__ import annotations

from layerwatch.schemas.alerts import Alert

_KIND_OF_DETECTOR = {
    "layer_slice": "layers",
    "layers_common": "layers",
    "layers_sum": "layers",
    "layers_spread": "layers",
    "single_layer": "layers",
    "layer_group": "layers",
    "common_level": "layers",
    "host_tail": "requests",
    "host_level": "requests",
    "end_to_end_tail": "requests",
    "spikes": "requests",
    "profile_switch": "requests",
    "build_comparison": "build",  # layers of sampled executions against those of the build before
    "clipping": "range",  # values at the end of what INT8 was calibrated for
    "reference_error": "reference",  # outputs against an engine of higher precision
}

_COUNTED_CAUSES = {"gpu_contention", "memory_bandwidth", "pcie_contention", "clock_throttle"}
_COUNTED_CONFIDENCE = 0.8  # which causes have only where the GPU's counters say so
_FELT_P50, _FELT_P99, _FELT_EXECUTIONS = 1.2, 1.5, 10


def evidence_of(alert: Alert, marked: bool) -> list[str]:
    """The kinds, sorted. `marked`: people told of a change right before its onset."""
    kinds = {kind for score in alert.detectors if (kind := _KIND_OF_DETECTOR.get(score.name)) is not None}
    impact = alert.impact
    felt = impact.p50_ratio >= _FELT_P50 or impact.p99_ratio >= _FELT_P99
    if felt and impact.affected >= _FELT_EXECUTIONS:
        kinds.add("requests")
    first = alert.causes[0] if alert.causes else None
    if first and first.cause in _COUNTED_CAUSES and first.confidence >= _COUNTED_CONFIDENCE:
        kinds.add("counters")
    if len(alert.instances) > 1:
        kinds.add("siblings")
    if marked:
        kinds.add("mark")
    return sorted(kinds)
