"""What each kind of injected fault should be called: the one table that judges causes and layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expectation:
    """Right answers for a faulty phase.

    `causes`: right first causes. `block`: part of the first layer's group, None where no layer is the right one.
    `action`: the decision that one would want, "" for none, None where nobody can say.
    `kind` and `severity`: the alerts that count as catching it; every kind, from warning up, unless said otherwise.
    """

    causes: frozenset[str] = frozenset()
    block: str | None = None
    kind: str | None = None
    severity: str = "warning"
    action: str | None = None


def _any(*causes: str, action: str) -> Expectation:
    return Expectation(frozenset(causes), action=action)


_CLIPPED = _any("quantization_range", "input_drift", action="fallback_precision")

_BY_PHASE = {
    "cotenant_compute": _any("gpu_contention", action="scale_out"),
    "cotenant_membw": _any("gpu_contention", "memory_bandwidth", action="scale_out"),
    "cotenant_burst": _any("gpu_contention", action="scale_out"),
    "cotenant_h2d": _any("pcie_contention", action="scale_out"),
    "stream_membw": _any("memory_bandwidth", action="scale_out"),
    "cpu_starve": _any("host_starvation", action="hold_scale_in"),
    "alloc_churn": _any("allocation", action="hold_scale_in"),
    "stream_compute": _any("gpu_contention", action="scale_out"),
    "gil_hog": _any("interpreter_lock", "host_starvation", action="hold_scale_in"),
    "switching_context": _any("profile_switch", action="none"),
    # A build that is slower in one block on long inputs only, and no slower as a whole: a fact, not yet a warning, and
    # nothing to act on.
    "rebuild_slow": Expectation(
        frozenset({"engine_change"}), "blocks.2", "engine_regression", "info", action=""
    ),
}

#: For phases of other names that begin so: inputs of whatever size, neighbours of whatever kind.
_BY_BEGINNING = {
    "input_x": _CLIPPED,
    "one_channel_x": _CLIPPED,
    "cotenant_": _any("gpu_contention", action="scale_out"),
}

#: For all others: whether they are caught can be judged, their cause cannot.
_UNKNOWN = Expectation()


def expected_of(phase: str) -> Expectation:
    """The expectation for a phase by its name."""
    if phase in _BY_PHASE:
        return _BY_PHASE[phase]
    return next((e for beginning, e in _BY_BEGINNING.items() if phase.startswith(beginning)), _UNKNOWN)
